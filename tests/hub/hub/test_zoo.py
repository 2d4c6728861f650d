"""A zoo file is plain data: what is wrong in it is named, and nothing of it is then registered."""

import pytest

import usbackbones


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": "abc"}, "not 64 hex digits"),
        ({"revision": "main"}, "neither null nor a 40-hex commit"),
        ({"sha256": None}, "not 64 hex digits"),
        ({"hub_id": "../../etc"}, "not <organisation>/<name>"),
        ({"hub_id": "org/name@main"}, "not <organisation>/<name>"),
        ({"model_args": []}, "not a mapping"),
        ({"model_args": {"act_layer": {"eval": "x"}}}, "plain values"),
        ({"licences": {"weights": ""}}, "licence of the weights"),
        ({"licences": None}, "wrong type"),
        ({"input": None}, "wrong type"),
        ({"input": {"size": "224"}}, "whole number of pixels"),
        ({"input": {"size": 10**9}}, "whole number of pixels"),
        ({"input": {"std": 0}}, "std is 0"),
        ({"input": {"mean": float("nan")}}, "mean is nan"),
        ({"input": {"interpolation": "magic"}}, "interpolation is 'magic'"),
        ({"input": {"pixels": 64}}, "pixels"),
        ({"licences": {}}, "no 'weights'"),
        ({"sha256": ...}, "no 'sha256'"),
        ({"name": "resnet18.a/../b"}, "is not a name"),
        ({"name": "resnet18"}, "is not a name"),
        ({"name": "resnet999.x_open1"}, "no entrypoint for 'resnet999'"),
        ({"default": "resnet18.other"}, "default is 'resnet18.other'"),
    ],
)
def test_a_faulty_entry_is_refused_and_nothing_is_registered(published, change, complaint):
    name = change.get("name", "resnet18.faulty_open1")
    entry = {**published.zoo["weights"][published.resnet], **change}
    entry = {key: value for key, value in entry.items() if value is not ...}
    good = published.zoo["weights"][published.resnet]
    before = usbackbones.list_weights()
    with pytest.raises(usbackbones.ZooError, match=complaint):
        usbackbones.register(
            {"default": change.get("default"), "weights": {"resnet18.good_open1": good, name: entry}},
        )
    assert usbackbones.list_weights() == before


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"weights": {}}', "[]", '{"weights": 1, "default": null}', "[" * 100_000, "\xff"]
)
def test_a_file_that_is_no_zoo_is_refused_by_name(tmp_path, content):
    (tmp_path / "private.json").write_text(content, encoding="latin-1")
    with pytest.raises(usbackbones.ZooError, match=r"private\.json is not a zoo"):
        usbackbones.register(tmp_path / "private.json")
