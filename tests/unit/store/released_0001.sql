CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE job (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    sop_instance_uids TEXT NOT NULL,
    state TEXT NOT NULL,
    rank INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    not_before FLOAT NOT NULL,
    worker TEXT,
    reason TEXT,
    predecessor INTEGER,
    priority TEXT,
    created_at FLOAT NOT NULL,
    updated_at FLOAT NOT NULL,
    CONSTRAINT same_input_never_twice UNIQUE (series_uid, input_digest),
    CONSTRAINT job_state CHECK (state IN ('queued', 'running', 'delivering', 'done', 'ineligible', 'failed')),
    FOREIGN KEY(predecessor) REFERENCES job (id)
);
CREATE INDEX ix_job_study_uid ON job (study_uid);
CREATE INDEX job_ready ON job (state, rank, id);
CREATE TABLE delivery (
    sop_instance_uid TEXT NOT NULL,
    destination TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    urgency INTEGER NOT NULL,
    sop_class_uid TEXT NOT NULL,
    path TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    not_before FLOAT NOT NULL,
    status INTEGER,
    cause TEXT,
    sent_sop_class_uid TEXT,
    sent_sop_instance_uid TEXT,
    transaction_uid TEXT,
    created_at FLOAT NOT NULL,
    updated_at FLOAT NOT NULL,
    PRIMARY KEY (sop_instance_uid, destination),
    CONSTRAINT delivery_state CHECK (state IN ('pending', 'sent', 'committed', 'failed')),
    FOREIGN KEY(job_id) REFERENCES job (id)
);
CREATE INDEX ix_delivery_job_id ON delivery (job_id);
CREATE INDEX delivery_due ON delivery (destination, state, urgency, job_id, sequence);
