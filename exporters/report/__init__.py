"""What a compile did, for people: a page that opens from disk, and a model card."""
