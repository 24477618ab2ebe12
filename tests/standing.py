"""Where the joints of somebody who stands upright are, in a frame of ``SIZE`` (width, height)."""

SIZE = (96, 128)
STANDING = {
    "nose": (48, 22),
    "neck": (48, 34),
    "right_shoulder": (38, 36),
    "right_elbow": (30, 48),
    "right_wrist": (26, 60),
    "left_shoulder": (58, 36),
    "left_elbow": (66, 48),
    "left_wrist": (70, 60),
    "right_hip": (42, 66),
    "right_knee": (40, 84),
    "right_ankle": (40, 102),
    "left_hip": (54, 66),
    "left_knee": (56, 84),
    "left_ankle": (56, 102),
    "right_eye": (46, 20),
    "left_eye": (50, 20),
    "right_ear": (43, 21),
    "left_ear": (53, 21),
}
