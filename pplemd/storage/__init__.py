"""What is written to the disk: run folders, snapshots, the cache; atomically."""
