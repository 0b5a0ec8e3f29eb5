"""The targets by name, for tests that import none of what they are made of."""

NAMES = (
    "shown", "split", "masks", "inflate", "columns", "lines", "configuration", "exceptions", "lists", "tables", "users", "rules",
    "filter", "http", "answers", "tokens", "redirects", "webhook", "returns",
    "board", "files", "memories", "queues", "cases", "scenarios",
    "damaged", "sandbox", "panels", "receivers", "mail", "searches",
    "plans", "simulator", "heads", "sections",
)  # fmt: skip
