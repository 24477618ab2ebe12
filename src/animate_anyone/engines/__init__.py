"""Many jobs run by one function: in this process, in a pool of processes, or by Ray. Results are in files."""
