"""Known datasets (`corpora`), manifests of them or of your own (`corpus`), the cache, sampling and augmentation."""
