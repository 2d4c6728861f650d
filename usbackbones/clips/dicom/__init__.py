"""DICOM ultrasound: one file a part of the header or of the decoding."""
