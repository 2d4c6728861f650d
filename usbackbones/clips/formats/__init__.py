"""Readers: one file a format, each turns a path into gray frames and what the file says about them.

`usbackbones.clips.read` is their public face; it alone knows which reader is for which kind of file.
"""
