"""From a name to proven bytes to a timm model.

What happens between `timm.create_model("usbackbones/<arch>.<tag>")` and the bytes, file by file:

1. registry.py checks the name against the weights of zoo.json and makes it timm's `us<arch>.<tag>`;
2. entrypoints.py holds `build`, which timm calls for it and which asks for the weight's file;
3. locate.py finds it (package, zoo folder, USBACKBONES_HUB, model_cards/; the first that has it) and proves its sha256;
4. download.py asks the Hugging Face cache where no place has it, or the Hub at a pinned commit, and proves it likewise;
5. entrypoints.py accounts for every tensor of the file, and timm's own entrypoint loads them.

`build_backbone` (backbone.py) goes the same way, and takes folders, runs and names of timm's as well.
"""
