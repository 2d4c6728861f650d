"""From a name to proven bytes to a timm model.

What happens between `timm.create_model("usbackbones/<arch>.<tag>")` and the bytes, file by file:

1. registry.py: `check` looks the name up among the weights of zoo.json, and an alias makes it timm's `us<arch>.<tag>`;
2. entrypoints.py: `build`, which timm calls for it, asks for the weight's file;
3. locate.py: `locate` finds it (package, zoo folder, USBACKBONES_HUB, model_cards/; the first that has it), `prove` its
   sha256;
4. download.py: `fetch` asks the Hugging Face cache where no place has it, or the Hub at a pinned commit, and proves it
   likewise;
5. entrypoints.py: `_account` counts every tensor of the file, and timm's own entrypoint loads them.

`build_backbone` (backbone.py) goes the same way, and takes folders, runs and names of timm's as well.
"""
