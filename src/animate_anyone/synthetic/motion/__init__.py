"""Movement: motions and dances of one puppet, and what it does with objects."""
