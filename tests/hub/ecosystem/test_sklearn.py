"""A backbone as the first step of a scikit-learn pipeline, judged by scikit-learn's own grouped cross-validation."""

from functools import partial

import numpy as np
import pytest
import timm

import usbackbones

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def test_features_feed_a_pipeline_and_its_search(stills):
    model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1)
    features = partial(usbackbones.embed, model)
    pipeline = make_pipeline(FunctionTransformer(features), StandardScaler(), LogisticRegression())
    folds = GroupKFold(3)
    scored = cross_val_score(pipeline, stills.frames, stills.label, groups=stills.patient, cv=folds)
    assert scored.mean() > 0.75

    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.01, 1]})
    search.set_params(cv=folds).fit(features(stills.frames), stills.label, groups=stills.patient)
    whole = pipeline.set_params(logisticregression__C=search.best_params_["logisticregression__C"])
    whole.fit(stills.frames, stills.label)
    np.testing.assert_array_equal(whole.predict(stills.frames), search.predict(features(stills.frames)))
