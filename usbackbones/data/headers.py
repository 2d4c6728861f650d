"""Patients, or at least studies, by the DICOM headers of a data set's files."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbackbones._words import plural
from usbackbones.clips.files import shortened
from usbackbones.clips.patient import BadSalt, header_facts
from usbackbones.clips.read import ClipError
from usbackbones.data.item import DataError, Item, Note

HEADER = "the DICOM header"
STUDY = "the study in the DICOM header"
_REMEDY = "give --group-from or a table with a column patient"


@dataclass(frozen=True)
class Headers:
    """What the headers of a data set say.

    Attributes:
        known: the patient of each file whose header names one; if none does, the study of each that names one.
        unknown: the other files that can be read.
        told_by: HEADER or STUDY.
        forms: for each file of a known patient, the same where patients are perhaps one, see `_same_name.one_form`.
    """

    known: Mapping[Path, str]
    unknown: Sequence[Path]
    told_by: str
    forms: Mapping[Path, str]

    def check(self) -> None:
        """Refuse to group by headers that tell too little.

        Raises:
            DataError: if only some files name a patient or study, all name the same, or one is written in two ways.
        """
        known, what = self.known, "patient" if self.told_by == HEADER else "study"
        if self.unknown:
            total = len(known) + len(self.unknown)
            raise DataError(
                f"{len(known)} of {total} files name their {what} in a DICOM header and {len(self.unknown)} do not, "
                f"as {shortened([path.name for path in self.unknown], 2)}: {_REMEDY}"
            )
        if len(known) > 1 and len(set(known.values())) == 1:
            raise DataError(f"all {len(known)} DICOM headers name the same {what}, as after anonymization: {_REMEDY}")
        ways: dict[str, dict[str, Path]] = defaultdict(dict)
        for path, form in self.forms.items():
            ways[form].setdefault(known[path], path)
        if several := [[path.name for path in of.values()] for of in ways.values() if len(of) > 1]:
            raise DataError(
                f"the DICOM headers write {plural(len(several), 'patient')} perhaps in several ways (capitals, zeros, "
                f"spaces), as {' and '.join(several[0][:2])} do: {_REMEDY}"
            )

    def tell_divided(self, items: Sequence[Item], note: Note) -> None:
        """Say so where a patient or study has files in several of the groups that were given."""
        groups: dict[str, set[str]] = defaultdict(set)
        for item in items:
            if item.path in self.known:
                groups[self.known[item.path]].add(item.group)
        divided = [sorted(names) for names in groups.values() if len(names) > 1]
        if divided and len(groups) > 1:
            many = plural(len(divided), "patient") if self.told_by == HEADER else f"studies, {len(divided)},"
            note(
                f"{many} of the DICOM headers with files in several groups by {items[0].told_by}, as "
                f"{shortened(divided[0])}: a patient may stand on both sides of the split"
            )


def read_headers(items: Iterable[Item]) -> Headers:
    """What the headers of the items' files say; a file that cannot be read says nothing.

    Raises:
        DataError: if there is no salt to make pseudonyms with.
    """
    facts = {}
    for path in dict.fromkeys(item.path for item in items):
        try:
            facts[path] = header_facts(path)
        except BadSalt as error:
            raise DataError(str(error)) from error
        except ClipError:  # reading the clip will say what is wrong with it
            continue
    known = {path: told.patient for path, told in facts.items() if told and told.patient}
    told_by = HEADER
    if not known:
        known, told_by = {path: told.study for path, told in facts.items() if told and told.study}, STUDY
    forms = {path: told.patient_form for path, told in facts.items() if path in known and told and told.patient_form}
    return Headers(known, [path for path in facts if path not in known], told_by, forms)
