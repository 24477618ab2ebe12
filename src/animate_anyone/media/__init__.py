"""Pictures and videos in and out: ``uint8`` arrays ``(height, width, 3)``, RGB, here; files there."""

from animate_anyone.media.files import check_folder, check_writable
from animate_anyone.media.opening import read_comment
from animate_anyone.media.pictures import PICTURE_SUFFIXES, contact_sheet, is_picture, read_picture, write_picture
from animate_anyone.media.sound import Sound
from animate_anyone.media.texts import parse_fps, parse_size
from animate_anyone.media.video_reading import (
    Video,
    frame_range,
    frame_times,
    natural_order,
    open_video,
    parse_range,
    probe,
    read_frames,
)
from animate_anyone.media.video_writing import VIDEO_SUFFIXES, VideoWriter
from animate_anyone.system.whole_files import whole_file

__all__ = [
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Sound",
    "Video",
    "VideoWriter",
    "check_folder",
    "check_writable",
    "contact_sheet",
    "frame_range",
    "frame_times",
    "is_picture",
    "natural_order",
    "open_video",
    "parse_fps",
    "parse_range",
    "parse_size",
    "probe",
    "read_comment",
    "read_frames",
    "read_picture",
    "whole_file",
    "write_picture",
]
