"""The approvers' pages: what waits, what was decided, what a task did. Readable without scripts; deciding needs the key that the browser keeps."""
