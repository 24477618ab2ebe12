"""Names and sizes of the files in a job's folder."""

RESULT, UNDERSTOOD, PREVIEW, FRAME, MARKS = "result.mp4", "understood.mp4", "preview.jpg", "frame.png", "marks.json"
"""Names of files in a job's folder."""
PREVIEW_SIDE, FRAME_SIDE = 512, 1280
