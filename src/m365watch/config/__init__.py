"""The configuration: models, loader, secrets, Devo compatibility, editor, generated reference."""
