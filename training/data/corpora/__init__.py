"""Readers of the public datasets, by name: a new dataset goes here, as a `record.Corpus` in the CORPORA of a family."""

from training.data.corpora import abdomen, breast, fetal, heart, lung, muscle, small, thyroid, us4

CORPORA = {
    corpus.name: corpus
    for family in (lung, fetal, muscle, breast, thyroid, heart, abdomen, us4, small)
    for corpus in family.CORPORA
}
