"""A seeded ultrasound simulator."""

from usbackbones.phantom.simulator import phantom_archive, phantom_clip

__all__ = ["phantom_archive", "phantom_clip"]
