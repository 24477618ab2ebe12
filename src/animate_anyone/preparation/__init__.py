"""From a folder of videos to a data set for training: clips of one person each, with poses, in one manifest."""
