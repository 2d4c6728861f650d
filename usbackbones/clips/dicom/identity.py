"""Whose a DICOM file is, as pseudonyms."""

from typing import TYPE_CHECKING

from usbackbones.clips.dicom.header import text
from usbackbones.clips.formats.base import Facts, Request
from usbackbones.clips.formats.identity import VARIABLE, NoSalt, find_salt, pseudonym

if TYPE_CHECKING:
    from pydicom import Dataset


def identify(dataset: "Dataset", request: Request, facts: Facts) -> None:
    """Fill in the pseudonyms of patient and study, and the names of the elements they are made of.

    A patient is the Patient ID; where that is empty, name and birth date together. The issuer of the id is left out:
    some exports drop it, and then one patient would count as two and stand on both sides of a split, while two that
    count as one only make a group larger. Study is the Study Instance UID; the Study ID is not unique.
    """
    patient, source = text(dataset, "PatientID"), "PatientID"
    name, birth = text(dataset, "PatientName"), text(dataset, "PatientBirthDate")
    if not patient and name and birth:
        patient, source = f"{name}\0{birth}", "PatientName and PatientBirthDate"
    study = text(dataset, "StudyInstanceUID")
    if not (patient or study):
        return
    try:
        salt = find_salt(request.salt)
    except NoSalt as error:
        request.warn(f"{request.path}: no pseudonyms, {error}; set {VARIABLE}")
        return
    facts.patient = pseudonym("patient", patient, salt) if patient else None
    facts.study = pseudonym("study", study, salt) if study else None
    facts.id_source = ", ".join([source] * bool(patient) + ["StudyInstanceUID"] * bool(study))
