"""The snapshotter for containerd: ordinary snapshots, and images that are mounted lazily."""
