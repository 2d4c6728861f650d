"""U-Net and Mask R-CNN on any backbone: data, training, evaluation."""
