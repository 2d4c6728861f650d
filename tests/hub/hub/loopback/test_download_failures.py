"""What cannot be downloaded: an error of the right class, soon, that names the weight, the place and the remedy."""

import json
import pickle
import socket
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.hub.hub.loopback.conftest import GUEST, MEMBER
from tests.hub_server.faults import Fault
from usbackbones.hub import download, errors
from usbackbones.hub.reachability import why_unreachable
from usbackbones.hub.zoo import FILE, parse_entry


def refused(answer, kind, builtin, weight):
    """The message of an error, which must say what every one of ours says."""
    assert answer.get("error") == kind, answer
    assert builtin in answer["kinds"] and "WeightsError" in answer["kinds"]
    hub_id, revision = weight.entry["hub_id"], weight.entry["revision"]
    assert (answer["name"], answer["repository"], answer["revision"]) == (weight.name, hub_id, revision)
    for part in (weight.name, hub_id, revision, FILE, answer["remedy"]):
        assert part in answer["message"]
    assert "\n" not in answer["message"] and answer["remedy"]
    return answer["message"]


def methods(hub):
    """The requests that the Hub has been sent, in order."""
    return [one.method for one in hub.log]


@pytest.fixture
def network_down(hub):
    hub.stop()
    yield hub
    hub.start()


def test_without_a_network_the_answer_comes_at_once(weight, load, network_down):
    answer = load(weight)
    message = refused(answer, "WeightsUnavailable", "ConnectionError", weight)
    # The answer of a single attempt to connect: the client, which retries for 23 s, was not started.
    assert "USBACKBONES_HUB" in message and "is not reached" in message
    assert "refused" in message or "no answer within" in message  # a busy machine may not get to the refusal in time


def test_without_a_network_the_cache_serves(hub, weight, load, good):
    assert load(weight)["digest"] == good
    hub.stop()
    try:
        assert load(weight)["digest"] == good
    finally:
        hub.start()


def test_without_a_network_a_poisoned_cache_is_told_and_kept(hub, weight, load, good):
    file = Path(load(weight)["file"])
    file.resolve().write_bytes(b"\0" * 100)
    hub.stop()
    try:
        answer = load(weight)
    finally:
        hub.start()
    message = refused(answer, "WeightsCorrupt", "ValueError", weight)
    assert str(file) in message and "not reached" in message and "Delete it" in message
    assert load(weight)["digest"] == good


def test_a_dropped_connection_is_told_and_does_not_matter_to_a_warm_cache(hub, weight, load, good):
    hub.faults.append(Fault("HEAD *", "drop"))
    answer = load(weight)
    refused(answer, "WeightsUnavailable", "ConnectionError", weight)
    assert methods(hub) == ["HEAD"]
    hub.faults.clear()
    load(weight)
    hub.faults.append(Fault("* *", "drop"))
    assert load(weight)["digest"] == good


def test_a_busy_hub_is_asked_again_and_then_named(hub, weight, load, good):
    hub.faults.append(Fault("HEAD *", "status", status=503))
    answer = load(weight)
    assert "HTTP 503" in refused(answer, "WeightsUnavailable", "ConnectionError", weight)
    assert methods(hub) == ["HEAD"] * (1 + len(download._PAUSES))
    hub.faults[:] = [Fault("HEAD *", "status", status=500, times=1)]
    assert load(weight)["digest"] == good


def test_a_silent_hub_is_given_up(hub, weight, load):
    hub.faults.append(Fault("HEAD *", "stall", seconds=20))
    answer = load(weight)
    refused(answer, "WeightsUnavailable", "ConnectionError", weight)
    assert methods(hub) == ["HEAD"]


def test_a_download_that_breaks_for_good_is_told_in_one_line(hub, client, weight, load):
    hub.faults.append(Fault("GET /blob/*", "status", status=410))
    assert "HTTP 410" in refused(load(weight), "WeightsUnavailable", "ConnectionError", weight)
    if client("register", zoo=weight.zoo)["huggingface_hub"].startswith("0."):
        return  # it tries a dropped connection for 23 s, which is no matter of ours
    hub.faults[:] = [Fault("GET /blob/*", "drop")]
    answer = load(weight)
    assert "broke off" in refused(answer, "WeightsUnavailable", "ConnectionError", weight)


def test_a_download_that_is_cut_short_every_time_is_given_up(hub, client, weight, load, good):
    hub.faults.append(Fault("GET /blob/*", "truncate"))
    answer = load(weight)
    message = refused(answer, "WeightsUnavailable", "ConnectionError", weight)
    assert len(message) < 600  # one line, and not the client's chain of causes
    assert methods(hub).count("GET") < 10
    hub.faults.clear()
    assert load(weight)["digest"] == good


def test_a_page_in_between_is_not_taken_for_a_hub(hub, weight, load):
    hub.faults.append(Fault("* *", "page"))
    assert "log-in page" in refused(load(weight), "WeightsUnavailable", "ConnectionError", weight)


def test_other_bytes_are_refused_and_leave_nothing_in_the_cache(hub, client, put, load, tmp_path):
    weight = put("swapped1", content=b"not what was released" * 1000)
    client("register", zoo=weight.zoo)
    message = refused(load(weight), "WeightsCorrupt", "ValueError", weight)
    assert weight.entry["sha256"] in message and hub.url in message
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert left == []
    downloads = [one for one in hub.log if one.path.startswith("/blob/") and one.method == "GET"]
    assert len(downloads) == 2  # once more than the first time, and no more


def test_a_private_or_gated_repository_says_how_to_get_in(client, put, load, good, hub):
    private, gated = put("private1", private=True), put("gated1", gated=True)
    client("register", zoo={"default": None, "weights": {one.name: one.entry for one in (private, gated)}})
    refused(load(private), "WeightsAccess", "PermissionError", private)
    refused(load(private, token=GUEST), "WeightsNotFound", "FileNotFoundError", private)
    for token in (None, GUEST):
        message = refused(load(gated, token=token), "WeightsAccess", "PermissionError", gated)
        assert f"{hub.url}/{gated.entry['hub_id']}" in message and "hf auth login" in message
    refused(load(gated, token="hf_expired"), "WeightsAccess", "PermissionError", gated)
    assert load(private, token=MEMBER)["digest"] == load(gated, token=MEMBER)["digest"] == good


def test_a_repository_a_commit_or_a_file_that_is_gone(hub, client, put, load):
    weight = put("gone1", files={"pytorch_model.bin": pickle.dumps(print), "config.json": b"{"})
    store = hub.state.store
    store.commit(weight.entry["hub_id"], "main", "without", {}, frozenset({FILE}))
    without_file = store.get(weight.entry["hub_id"]).branches["main"]
    for change in ({"revision": without_file}, {"revision": "0" * 40}, {"hub_id": "org/nowhere"}):
        other = type(weight)(weight.name, weight.entry | change, weight.content)
        client("register", zoo=other.zoo)
        hub.log.clear()
        answer = load(other, token=MEMBER)
        assert "Update usbackbones" in refused(answer, "WeightsNotFound", "FileNotFoundError", other)
        assert not [one for one in hub.log if one.path.endswith(("pytorch_model.bin", "config.json"))]


def test_what_else_lies_in_the_repository_is_never_read(hub, client, put, load, good):
    files = {"config.json": b'{"architecture": "os.system"', "pytorch_model.bin": b"\x80\x04cos\nsystem\n."}
    weight = put("littered1", files=files)
    client("register", zoo=weight.zoo)
    assert load(weight)["digest"] == good
    assert {one.path for one in hub.log} <= {weight.resolve, weight.blob, "/api/agent-harnesses"}


@pytest.mark.parametrize("fault", ["missing", "prefixed", "a classifier", "another shape", "whole numbers"])
def test_a_release_that_is_another_network_is_refused_for_any_head(client, put, load, tiny_tensors, fault):
    key = "layer1.0.conv1.weight"
    changed = {
        "missing": {name: value for name, value in tiny_tensors.items() if name != key},
        "prefixed": {f"encoder.{name}": value for name, value in tiny_tensors.items()},
        "a classifier": tiny_tensors | {"fc.weight": torch.zeros(3, 256), "fc.bias": torch.zeros(3)},
        "another shape": tiny_tensors | {key: torch.zeros(1, 2)},
        "whole numbers": tiny_tensors | {key: torch.ones_like(tiny_tensors[key], dtype=torch.int32)},
    }[fault]
    weight = put("wrong1", changed)
    client("register", zoo=weight.zoo)
    for kwargs in ({}, {"num_classes": 3}, {"num_classes": 3, "pretrained_strict": True}, {"features_only": True}):
        message = refused(load(weight, **kwargs), "WeightsCorrupt", "ValueError", weight)
        assert "is not a test_resnet" in message


def test_a_cache_that_cannot_be_written_is_named(weight, load, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refused(load(weight, cache_dir=tmp_path / "file" / "x"), "WeightsUnavailable", "ConnectionError", weight)
    assert "HF_HOME" in message and str(tmp_path / "file") in message


def test_an_entry_of_the_cache_that_points_elsewhere_costs_no_other_file(weight, load, good, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    entry = Path(load(weight)["file"])
    entry.unlink()
    entry.symlink_to(precious)
    assert load(weight)["digest"] == good
    assert precious.read_text() == "mine" and entry.read_bytes() == weight.content


def test_the_command_line_ends_with_a_line_and_not_a_traceback(hub, client, weight, tmp_path):
    (tmp_path / "clip.gif").write_bytes(b"")
    hub.faults.append(Fault("HEAD *", "status", status=404, code="RepoNotFound"))
    clip, out = str(tmp_path / "clip.gif"), str(tmp_path / "x.npz")
    told = client("run", args=["embed", clip, "-o", out, "--model", weight.name])
    assert told["code"] == 2 and told["err"].count("\n") == 1 and weight.name in told["err"], told


def test_an_error_survives_a_process_pool():
    entry = json.loads((REPOSITORY / "usbackbones" / "zoo.json").read_text())["weights"]
    error = errors.WeightsCorrupt.about(parse_entry(*next(iter(entry.items()))), "it is odd", "Do this")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.remedy) == (type(error), str(error), "Do this")


def test_a_network_that_swallows_packets_is_told_in_time():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        # A queue of one, which these fill; what comes after them is never answered.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        assert "no answer within 0.2 s" in (why_unreachable(f"http://127.0.0.1:{port}", patience=0.2) or "")
        for filler in fillers:
            filler.close()


def test_names_that_nobody_knows_and_proxies(hub, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert why_unreachable("https://nowhere.invalid") and why_unreachable("http://[x")
    assert why_unreachable(hub.url) is None
    monkeypatch.setenv("HTTPS_PROXY", hub.url.removeprefix("http://"))  # without a scheme, as many write it
    assert why_unreachable("https://nowhere.invalid") is None
    monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
    assert why_unreachable("https://nowhere.invalid")
