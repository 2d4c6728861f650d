"""Downloads over a real connection, on the newest and the oldest client: the released bytes, or an error that helps."""

from pathlib import Path

import pytest

from tests.hub.hub.loopback.conftest import MEMBER
from tests.hub_server.faults import Fault
from tests.hub_server.server import LoopbackHub


def test_the_file_is_asked_for_once_at_its_commit_and_a_warm_load_asks_nothing(hub, weight, load, good):
    loaded = load(weight, token=MEMBER)
    assert "digest" in loaded, loaded
    assert loaded["digest"] == good
    assert {one.path for one in hub.log if one.method != "HEAD"} - {"/api/agent-harnesses"} <= {
        weight.resolve,
        weight.blob,
    }
    assert [one.status for one in weight.of(hub.log, "GET")].count(200) == 1
    hub.log.clear()
    again = load(weight, token=MEMBER)
    assert again["digest"] == good and again["file"] == loaded["file"]
    assert hub.log == []


def test_the_token_stays_at_its_origin(hub, weight, load):
    load(weight, token=MEMBER)
    bearer = f"Bearer {MEMBER}"
    at_hub = [one.authorization for one in hub.log if one.path == weight.resolve]
    at_store = [one.authorization for one in hub.log if one.path == weight.blob]
    assert at_hub and set(at_hub) == {bearer}
    assert at_store and set(at_store) == {None}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_redirection_to_a_stranger_takes_no_token_along(hub, weight, load, tmp_path, method):
    with LoopbackHub(tmp_path / "stranger") as stranger:
        target = weight.resolve if method == "HEAD" else weight.blob
        # Another name and not only another port: huggingface_hub 1 takes a host's ports for one.
        elsewhere = stranger.url.replace("127.0.0.1", "localhost")
        hub.faults.append(Fault(f"{method} {target}", "redirect", to=f"{elsewhere}/anything"))
        answer = load(weight, token=MEMBER)
    assert answer["error"] in ("WeightsUnavailable", "WeightsNotFound")
    assert all(one.authorization is None for one in stranger.log)
    assert stranger.log or method == "HEAD"


def test_a_download_that_breaks_goes_on_where_it_was(hub, client, put, load, published):
    # 22 MB: the client writes 10 MB at a time, and what it has written it does not ask for again.
    weight = put("big1", published.tensors[published.resnet], arch="resnet18")
    client("register", zoo=weight.zoo)
    hub.faults.append(Fault("GET /blob/*", "truncate", times=1))
    assert "digest" in load(weight)
    first, second = weight.of(hub.log, "GET")[-2:]
    assert (first.range, second.range, second.status) == (None, "bytes=10485760-", 206)


def test_a_download_that_stalls_is_resumed(hub, weight, load, good):
    hub.faults.append(Fault("GET /blob/*", "stall", times=1, seconds=5))
    assert load(weight)["digest"] == good
    assert len(weight.of(hub.log, "GET")) == 2


def test_damage_on_the_way_is_noticed_and_the_file_fetched_anew(hub, weight, load, good):
    hub.faults.append(Fault("GET /blob/*", "corrupt", times=1))
    assert load(weight)["digest"] == good
    assert len([one for one in hub.log if one.path == weight.blob and one.method == "GET"]) == 2


@pytest.mark.parametrize("damage", ["a bit", "the header", "another file", "copied without its links"])
def test_a_poisoned_cache_heals_itself_by_one_download(hub, weight, load, good, tmp_path, damage):
    entry = Path(load(weight)["file"])
    blob = entry.resolve()
    content = bytearray(blob.read_bytes())
    if damage == "another file":
        blob.write_bytes(b"<html>")
    elif damage == "the header":
        blob.write_bytes(b"\xff" * 8 + bytes(content[8:]))
    else:
        content[-1000] ^= 1
        if damage == "copied without its links":
            entry.unlink()
            entry.write_bytes(content)
        else:
            blob.write_bytes(content)
    hub.log.clear()
    healed = load(weight)
    assert healed["digest"] == good and entry.read_bytes() == weight.content
    assert len([one for one in hub.log if one.path == weight.blob and one.method == "GET"]) <= 1
    hub.log.clear()
    assert load(weight)["digest"] == good and hub.log == []
