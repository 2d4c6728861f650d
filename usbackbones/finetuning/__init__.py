"""Fine-tuning a backbone on labelled clips, evaluated on groups held out."""
