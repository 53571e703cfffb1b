"""What several tests share: small hand-written fakes and a world to put a pipeline in."""
