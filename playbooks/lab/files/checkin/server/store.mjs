// Where the provider keeps sessions, codes, grants and refresh tokens: one SQLite file, so that they outlive a restart.
// The interface is oidc-provider's "adapter" (its docs/README.md, "adapter").
import { DatabaseSync } from 'node:sqlite';

const database = new DatabaseSync(`${process.env.STATE_DIRECTORY ?? '/var/lib/checkin'}/state.db`);
database.exec(`
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = OFF; -- a power cut may cost the lab its sessions
  CREATE TABLE IF NOT EXISTS things (
    model TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL, expires INTEGER,
    grant_id TEXT, user_code TEXT, uid TEXT,
    PRIMARY KEY (model, id)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS by_grant ON things (grant_id) WHERE grant_id IS NOT NULL;
  CREATE INDEX IF NOT EXISTS by_user_code ON things (user_code) WHERE user_code IS NOT NULL;
  CREATE INDEX IF NOT EXISTS by_uid ON things (model, uid) WHERE uid IS NOT NULL;
  CREATE INDEX IF NOT EXISTS by_expiry ON things (expires);
`);

const now = () => Math.floor(Date.now() / 1000);
const select = (where) => database.prepare(
  `SELECT payload FROM things WHERE ${where} AND (expires IS NULL OR expires > ?)`,
);
const byId = select('model = ? AND id = ?');
const byUid = select('model = ? AND uid = ?');
const byUserCode = select('model = ? AND user_code = ?');
const upsert = database.prepare('INSERT OR REPLACE INTO things VALUES (?, ?, ?, ?, ?, ?, ?)');
const consume = database.prepare("UPDATE things SET payload = json_set(payload, '$.consumed', ?) WHERE model = ? AND id = ?");
const destroy = database.prepare('DELETE FROM things WHERE model = ? AND id = ?');
const revoke = database.prepare("DELETE FROM things WHERE grant_id = ? AND model != 'Session'");
const expire = database.prepare('DELETE FROM things WHERE expires <= ?');

export function removeExpired() {
  expire.run(now());
}

export class Store {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload, expiresIn) {
    const expires = expiresIn ? now() + expiresIn : null;
    const { grantId = null, userCode = null, uid = null } = payload;
    upsert.run(this.model, id, JSON.stringify(payload), expires, grantId, userCode, uid);
  }

  async find(id) {
    return this.#payload(byId.get(this.model, id, now()));
  }

  async findByUid(uid) {
    return this.#payload(byUid.get(this.model, uid, now()));
  }

  async findByUserCode(userCode) {
    return this.#payload(byUserCode.get(this.model, userCode, now()));
  }

  async consume(id) {
    consume.run(now(), this.model, id);
  }

  async destroy(id) {
    destroy.run(this.model, id);
  }

  async revokeByGrantId(grantId) {
    revoke.run(grantId);
  }

  #payload(row) {
    return row && JSON.parse(row.payload);
  }
}
