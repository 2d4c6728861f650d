"""ONNX and torch.export programs of a model, and checkpoints of others as timm folders."""
