"""One trained head scored under the original papers' protocol and under a patient-grouped one."""
