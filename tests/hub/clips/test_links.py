"""Symbolic links: each real file is found once, whatever the tree and wherever links lead."""

import os
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.hub.clips.test_read import moving, write_gif
from usbackbones.clips import ClipError, find_clips, read_clip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def test_links_that_lead_back_end_there(tmp_path):
    (tmp_path / "one" / "a").mkdir(parents=True)
    clip = write_gif(tmp_path / "one" / "a" / "clip.gif", moving(2))
    (tmp_path / "one" / "a" / "up").symlink_to("..")
    (tmp_path / "one" / "a" / "again").symlink_to(".")
    (tmp_path / "one" / "a" / "latest").symlink_to(".")
    (tmp_path / "one" / "itself").symlink_to("itself")
    (tmp_path / "one" / "first.gif").symlink_to("a/clip.gif")
    assert find_clips(tmp_path / "one") == [clip]
    assert find_clips(tmp_path / "one" / "first.gif") == [tmp_path / "one" / "first.gif"]


def test_links_to_what_lies_elsewhere_are_followed_once(tmp_path):
    (tmp_path / "store" / "stills").mkdir(parents=True)
    write_gif(tmp_path / "store" / "b.gif", moving(2))
    Image.fromarray(moving(1)[0]).save(tmp_path / "store" / "stills" / "0.png")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "z").symlink_to("../store")
    (tree / "b.gif").symlink_to("../store/b.gif")
    (tree / "frames").mkdir()
    (tree / "frames" / "0.png").symlink_to("../../store/stills/0.png")
    found = find_clips(tree)
    assert found == [tree / "b.gif", tree / "frames"]
    assert [len(read_clip(clip).frames) for clip in found] == [2, 1]


def test_a_frame_of_a_folder_is_not_read_again_by_its_link(tmp_path):
    frames = moving(3)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    (tmp_path / "0_latest.png").symlink_to("2.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert np.array_equal(read_clip(tmp_path).frames, frames)


def test_a_path_with_a_typo_is_told_as_such(tmp_path):
    for look in (find_clips, read_clip):
        with pytest.raises(ClipError, match="typo: no such file or folder; check the path"):
            look(tmp_path / "typo")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=6))
def test_any_tree_gives_each_real_file_once(tmp_path_factory, links):
    """Folders a, a/b, a/b/c with a clip each, and links from anywhere to any folder or clip."""
    root = tmp_path_factory.mktemp("tree")
    folders = [root, root / "a", root / "a" / "b", root / "a" / "b" / "c"]
    folders[-1].mkdir(parents=True)
    clips = [write_gif(folder / "clip.gif", moving(1, 4, 4)) for folder in folders[1:]]
    for number, (place, target) in enumerate(links):
        (folders[place] / f"link{number}").symlink_to([*folders, *clips][target])
    assert sorted(map(os.path.realpath, find_clips(root))) == sorted(map(str, clips))
