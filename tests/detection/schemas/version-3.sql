CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE tenant (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE match (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, at INTEGER NOT NULL,
    identity TEXT NOT NULL, source TEXT NOT NULL, record TEXT NOT NULL, severity TEXT NOT NULL,
    vals BLOB NOT NULL, counted TEXT NOT NULL,
    PRIMARY KEY (rule, tenant, grp, at, identity, source)
) WITHOUT ROWID;

CREATE TABLE full (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, hour INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (rule, tenant, grp, hour)
) WITHOUT ROWID;

CREATE TABLE alert (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, shown INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, changed_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX alert_group ON alert (rule, tenant, grp, first);

CREATE INDEX alert_time ON alert (last);

CREATE TABLE former (id TEXT PRIMARY KEY, now TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE link (alert TEXT NOT NULL, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (alert, rule, grp)) WITHOUT ROWID;

CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL UNIQUE, what TEXT NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE lake_due (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, day INTEGER NOT NULL,
    UNIQUE (alert, day)
);

CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, at INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL
);

CREATE INDEX history_alert ON history (alert, number);
