"""Pictures and videos in and out: ``uint8`` arrays ``(height, width, 3)``, RGB, here; files there."""

from animate_anyone.media.files import check_folder, check_writable, whole_file
from animate_anyone.media.pictures import contact_sheet, read_picture, write_picture
from animate_anyone.media.video_reading import (
    FOLDER_FPS,
    VideoInfo,
    frame_range,
    frame_times,
    parse_range,
    probe,
    read_frames,
)
from animate_anyone.media.video_writing import VIDEO_SUFFIXES, VideoWriter

__all__ = [
    "FOLDER_FPS",
    "VIDEO_SUFFIXES",
    "VideoInfo",
    "VideoWriter",
    "check_folder",
    "check_writable",
    "contact_sheet",
    "frame_range",
    "frame_times",
    "parse_range",
    "probe",
    "read_frames",
    "read_picture",
    "whole_file",
    "write_picture",
]
