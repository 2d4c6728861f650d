"""Frame folders as USCL's US-4 has them: one folder of stills a video, its class in the folder's name."""

import re
from pathlib import Path

from training.data.corpora.record import Corpus
from training.data.manifest import Row
from usbackbones.clips import find_clips

# Class prefixes of the four subsets: CLUST, liver fibrosis, Butterfly and COVID19-LUSMS.
_ORGANS = {"Rb": "liver", "F": "liver", "Reg": "lung", "Cov": "lung", "Ali": "lung", "Bli": "lung", "Ple": "lung"}
_CLASS = re.compile(r"(Rb[1-5]|F[0-4]|Reg|Cov|Ali|Bli|Ple|Oth)(?![a-z])")


def us4(root: Path) -> list[Row]:
    """One clip a folder of frames; a folder without one of the classes in its name stays unlabelled."""
    rows = []
    for folder in find_clips(root):
        found = _CLASS.match(folder.name)
        label = found[1] if found else ""
        name = folder.relative_to(root).as_posix()
        organ = _ORGANS.get(label.rstrip("012345"), "lung" if label else "")
        rows.append(Row(path=str(folder), clip=name, group=f"us4_{name}", organ=organ, label=label))
    return rows


CORPORA = (
    Corpus(
        name="us4",
        what="frame folders of US-4 (Chen et al., MICCAI 2021); only its Butterfly part, 22 lung videos, is public",
        where="https://github.com/983632847/USCL",
        layout="Cov-Cardiomyopathy_mp4/*.jpg: one folder a video, its class at the beginning of the name",
        patient="not told: each video is its own group",
        label="Reg, Cov, Rb1 to Rb5, F0 to F4, Ali, Bli, Ple or Oth",
        pretrain=False,
        read=us4,
        note="its Butterfly videos are part of pocus_lung too: never evaluate on one what has seen the other",
    ),
)
