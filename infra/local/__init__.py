"""Everything that knows the local AWS: the emulator, what it lacks, the dev server and the demo."""
