"""Typed payloads to JSON and back: the codec of a type, and the tags of classes in unions."""

from perdure.core.codec.codec import Codec, codec_for
from perdure.core.codec.tags import Tag

__all__ = ["Codec", "Tag", "codec_for"]
