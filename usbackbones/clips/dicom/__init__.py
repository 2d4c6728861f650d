"""DICOM ultrasound, one file a part: `read` lists the steps, `samples` settles what a header got wrong."""
