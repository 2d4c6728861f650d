"""Small collections with open licences: liver, carotid, hip, tongue, and clips and stills of many organs."""

from training.data.corpora.record import Corpus, listed

_CLIPS = {
    "echo": "heart",
    "echo_subcostal": "heart",
    "lung": "lung",
    "abdomen": "abdomen",
    "abdomen_RUQ_gallbladder": "abdomen",
    "soft_tissue": "soft tissue",
    "brachial_artery_doppler": "vessel",
}
"""Views of living tissue; two clips of the gastrocnemius are of a subject of TimTrack's."""
_LISTED = "groups.csv (path, group, label, view, licence), img/"


CORPORA = (
    Corpus(
        name="aul_liver",
        what="36 stills of livers of the annotated ultrasound liver images (Xu et al. 2022)",
        where="https://zenodo.org/records/7272660",
        licence="CC BY 4.0",
        layout=f"{_LISTED}, mask/",
        patient="the still: there is one of each",
        pretrain=True,
        read=listed("liver"),
    ),
    Corpus(
        name="momot_carotid",
        what="20 transverse stills of common carotid arteries (Momot 2022)",
        where="https://data.mendeley.com/datasets/d4xt63mgjm",
        licence="CC BY 4.0",
        layout=f"{_LISTED}, mask/",
        patient="the examination: the number that the file name begins with",
        pretrain=True,
        read=listed("carotid"),
    ),
    Corpus(
        name="nhbs_hip",
        what="50 coronal stills of infants' hips (Liu et al., NHBS-Net)",
        where="https://github.com/hidden-ops/NHBS-Net_SPJ_dataset",
        licence="Apache-2.0",
        layout=_LISTED,
        patient="the still: there is one of each",
        pretrain=True,
        read=listed("hip", anatomy="infant hip"),
    ),
    Corpus(
        name="open_clips",
        what="15 clips of hearts, lung, abdomen, soft tissue and an artery, from repositories with an open licence",
        where="https://github.com/davycro/sonocrop, riponazad/echotracker and ccoolbaugh/FloWave.US",
        licence="per file",
        layout="groups.csv (path, group, label, view, licence), video/",
        patient="the clip",
        pretrain=True,
        read=listed(_CLIPS),
        note="two phantoms and two clips of a subject of TimTrack's in the same folder are left out",
    ),
    Corpus(
        name="open_stills",
        what="8 stills of carotid arteries from a repository with an open licence",
        where="https://github.com/kostelansky17/carotids",
        licence="per file",
        layout=_LISTED,
        patient="the still: there is one of each",
        pretrain=True,
        read=listed({"carotid_or_doppler": "carotid"}),
        note="28 stills of phantoms, and of bone and eyes that may be phantoms, in the same folder are left out",
    ),
    Corpus(
        name="ultrasuite_tongue",
        what="15 recordings of at most 8 frames and 5 clips of tongues (UltraSuite: TaL and Ultrax)",
        where="https://ultrasuite.github.io",
        licence="CC BY-NC 4.0",
        layout="groups.csv (path, group, label, view, licence), a folder of frames a recording, video/",
        patient="the speaker, or the session where speakers are not told",
        pretrain=True,
        read=listed("tongue", anatomy="midsagittal"),
    ),
)
