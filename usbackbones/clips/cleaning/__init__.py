"""Find the ultrasound on a scanner's screen and mask what is burned into it.

sector.py, letterbox.py, text.py and marks.py find; clean.py masks, and `--clean` asks it to in
usbackbones/clips/cleaned.py.
"""
