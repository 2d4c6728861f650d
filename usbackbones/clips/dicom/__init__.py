"""DICOM ultrasound, one file a part: `read` lists the steps, `header_faults` the quirks of vendors, one by one."""
