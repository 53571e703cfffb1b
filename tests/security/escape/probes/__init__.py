"""What a hostile program tries from inside. Standard library only: this folder is mounted and run in the sandboxes."""
