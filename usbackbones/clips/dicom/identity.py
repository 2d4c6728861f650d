"""Pseudonyms: whose a DICOM file is, as a salted hash, so that clips of one patient can be grouped and none named.

A hash without a secret is no protection: patient ids are few, and whoever has a list of them finds each by trying.
The secret is the salt. It must be the same wherever the same patient shall get the same pseudonym, so it is not drawn
again by each process. It is, in this order: the argument `salt`; the environment variable USBACKBONES_SALT; else the
user's own, drawn at first need and kept in `usbackbones/salt` of the user's configuration folder ($XDG_CONFIG_HOME,
%APPDATA% or ~/.config), readable by this user alone. Machines that shall agree are given the same salt. Whoever
deletes the salt can never link the pseudonyms to the ids again.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from usbackbones._same_name import one_form, told_name
from usbackbones.clips.dicom.header import text
from usbackbones.clips.formats.base import ClipError, Facts, Request

if TYPE_CHECKING:
    from pydicom import Dataset

VARIABLE = "USBACKBONES_SALT"
_SHORTEST = 8  # characters of a salt; a shorter one is guessed together with the id


class BadSalt(ClipError):
    """A salt that pseudonyms must not be made with."""


class NoSalt(OSError):
    """The user's own salt can be neither read nor kept."""


def identify(dataset: "Dataset", request: Request, facts: Facts) -> None:
    """Fill in the pseudonyms of patient and study, and the names of the elements they are made of.

    A patient is the Patient ID; where that is empty or a word for it, name and birth date together. The issuer of the
    id is left out: some exports drop it, and then one patient would count as two and stand on both sides of a split,
    while two that count as one only make a group larger. Study is the Study Instance UID; the Study ID is not unique.
    """
    patient, source = told_name(text(dataset, "PatientID")), "PatientID"
    name, birth = told_name(text(dataset, "PatientName")), text(dataset, "PatientBirthDate")
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
    facts.patient_form = pseudonym("patient", one_form(patient), salt) if patient else None
    facts.study = pseudonym("study", study, salt) if study else None
    facts.id_source = ", ".join([source] * bool(patient) + ["StudyInstanceUID"] * bool(study))


def pseudonym(what: str, value: str, salt: str) -> str:
    """16 hex digits of the HMAC-SHA256 of a clear id under a salt; "patient" and "study" keep equal numbers apart."""
    return hmac.new(salt.encode(), f"{what}\0{value}".encode(errors="replace"), hashlib.sha256).hexdigest()[:16]


def find_salt(given: str | None) -> str:
    """The salt to use, by the order told above.

    Raises:
        BadSalt: if the salt that was given is too short.
        NoSalt: if the user's own can be neither read nor kept.
    """
    salt = given or os.environ.get(VARIABLE)
    if not salt:
        return _own_salt()
    if len(salt) < _SHORTEST:
        named = "salt" if given else f"${VARIABLE}"
        raise BadSalt(
            f"{named}: a salt of {len(salt)} characters can be guessed; give at least {_SHORTEST}, drawn by chance"
        )
    return salt


def salt_file() -> Path:
    """Where the user's own salt is kept."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA")
    return (Path(folder) if folder else Path.home() / ".config") / "usbackbones" / "salt"


def _own_salt() -> str:
    """Read the user's salt, or draw it; of processes that draw at the same moment all use what one of them drew."""
    try:
        file = salt_file()
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".salt.{os.getpid()}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                    stream.write(secrets.token_hex(32))
                # A link, not a move: it fails where the file is there by now, and so never replaces a salt in use.
                os.link(draft, file)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        salt = file.read_text(encoding="ascii").strip()
    except (OSError, RuntimeError, UnicodeError) as error:  # RuntimeError: there is no home
        raise NoSalt("the file of the salt can be neither read nor made") from error
    if len(salt) < _SHORTEST:
        raise NoSalt("the file of the salt is damaged")
    return salt
