"""How the folders of published data sets lie, by the names that ``--layout`` takes."""

LAYOUTS = ("plain", "ubc", "tiktok", "ted")
