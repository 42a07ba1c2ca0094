/**
 * What Redis does by itself, in one step each. Every script gets the prefix of all keys first.
 *
 * A room belongs to one of a fixed number of shards. A shard is a channel and, under `shard:n`, an epoch and a sequence: the
 * epoch is made when Redis knows of none, and the sequence counts all that was ever published on the channel. So whoever
 * listens knows whether something is missing.
 *
 * - `members:room` holds the members of a room: the id, and "node\nmetadata".
 * - `node:id` holds those of a node: "shard id room".
 * - `nodes` holds when the leases of the nodes run out, by the clock of Redis; `run` holds the run in which that was last set.
 * - `history:room` holds the epoch and the last offset of a room, and `stream:room` what it has kept, under "offset-time".
 *
 * A run is the time from one start of Redis, or promotion of a replica, to the next: a new one does not know what came after
 * its data was saved or copied. So an epoch counts for one run only, as is seen from its name, "epoch.run". A room remembers,
 * under `until:run`, how far the messages of former runs went, and under `forgotten` up to where it has forgotten that: who
 * has seen more has seen what is lost. The next epoch of the room begins with how often that has happened, as a Redis that
 * loses this, too, comes back with an epoch of before.
 */
import { createHash } from "node:crypto"

/**
 * Redis is asked for a script by its `sha`, and sent it if that is not known, after what came later. One without is sent whole.
 */
export interface Script {
  readonly lua: string
  readonly sha?: string
}

const common = `
local prefix = table.remove(ARGV, 1)

local function int(number) return string.format('%.0f', number) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Redis names its data anew with each start and each promotion.
local current
local function run()
  current = current or string.match(redis.call('INFO', 'replication'), 'master_replid:(' .. string.rep('%x', 12) .. ')')
  return current
end

local function epochOf(shard, candidate)
  local key = prefix .. 'shard:' .. shard
  redis.call('HSETNX', key, 'epoch', candidate)
  return redis.call('HGET', key, 'epoch') .. '.' .. run()
end

local function emit(shard, candidate, position, body)
  local epoch = epochOf(shard, candidate)
  local head = epoch .. ' ' .. int(redis.call('HINCRBY', prefix .. 'shard:' .. shard, 'seq', 1)) .. position
  redis.call('PUBLISH', prefix .. 'channel:' .. shard, head .. '\\n' .. body)
end
`

const removing = `
local function reap(node, candidate)
  local set = prefix .. 'node:' .. node
  for _, tag in ipairs(redis.call('SMEMBERS', set)) do
    local shard, id, room = string.match(tag, '^(%d+) (%S+) (.*)$')
    if redis.call('HDEL', prefix .. 'members:' .. room, id) == 1 then
      emit(shard, candidate, '', cjson.encode({ kind = 'Left', room = room, id = id }) .. '\\n')
    end
  end
  redis.call('DEL', set)
  redis.call('ZREM', prefix .. 'nodes', node)
end
`

const keeping = `
-- Drops what is too old. A stream forgets its smallest ids, which are the oldest offsets.
local function prune(stream, age)
  local limit = now() - age
  while true do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not oldest then return nil end
    local offset, time = string.match(oldest[1], '^(%d+)-(%d+)$')
    if tonumber(time) > limit then return tonumber(offset) end
    redis.call('XTRIM', stream, 'MINID', int(tonumber(offset) + 1))
  end
end

-- The epoch of a room and its last offset. The run is that of its last message. What was kept in an epoch that is not known
-- any more, as Redis may evict it before, does not belong to the new one.
local function historyOf(room, candidate, remember)
  local key = prefix .. 'history:' .. room
  if redis.call('HSETNX', key, 'epoch', candidate) == 1 then redis.call('DEL', prefix .. 'stream:' .. room) end
  redis.call('HSETNX', key, 'run', run())
  redis.call('PEXPIRE', key, remember)
  local known = redis.call('HMGET', key, 'epoch', 'run', 'offset')
  return known[1] .. '.' .. known[2], tonumber(known[3] or '0')
end

-- How often a room has lost messages before an epoch began.
local function losses(epoch) return tonumber(string.match(epoch, '^(%d+)%-') or '0') end

-- How far an epoch of a room went; nothing if that is not known. And beyond which offset that is a loss.
local function endOf(room, epoch)
  local name, ofRun = string.match(epoch, '^(.*)%.(.*)$')
  if not name then return nil, math.huge end
  local key = prefix .. 'history:' .. room
  local known = redis.call('HMGET', key, 'epoch', 'run', 'offset', 'until:' .. ofRun, 'forgotten')
  if known[1] ~= name then return nil, known[1] and losses(name) > losses(known[1]) and -1 or math.huge end
  return tonumber(known[2] == ofRun and (known[3] or '0') or known[4]), tonumber(known[5] or '-1')
end

-- Forgets former runs that ended before an offset, but for where the last of them did.
local function forget(room, offset)
  local key = prefix .. 'history:' .. room
  local fields, last = redis.call('HGETALL', key), tonumber(redis.call('HGET', key, 'forgotten') or '-1')
  for i = 1, #fields, 2 do
    local upTo = string.sub(fields[i], 1, 6) == 'until:' and tonumber(fields[i + 1])
    if upTo and upTo < offset then
      redis.call('HDEL', key, fields[i])
      last = math.max(last, upTo)
    end
  end
  redis.call('HSET', key, 'forgotten', int(last))
end
`

const script = (source: string, ...parts: ReadonlyArray<string>): Script => {
  const lua = [common, ...parts, source].join("")
  return { lua, sha: createHash("sha1").update(lua).digest("hex") }
}

const inOrder = (source: string): Script => ({ lua: common + source })

/**
 * shard, candidate epoch, body, room; with a history, also how many messages and for how many milliseconds it keeps them, and
 * for how many the room is remembered. With a history, gives the epoch and the offset of the message.
 */
export const publish = script(
  `
local shard, candidate, body, room, messages, age, remember = unpack(ARGV)
if not messages then return emit(shard, candidate, '', body) end
local key, stream = prefix .. 'history:' .. room, prefix .. 'stream:' .. room
local _, last = historyOf(room, candidate, remember)
local before = redis.call('HGET', key, 'run')
if before ~= run() then redis.call('HSET', key, 'until:' .. before, int(last), 'run', run()) end
redis.call('HSET', key, 'age', age)
local offset = int(redis.call('HINCRBY', key, 'offset', 1))
local epoch = redis.call('HGET', key, 'epoch') .. '.' .. run()
redis.call('XADD', stream, 'MAXLEN', messages, offset .. '-' .. int(now()), 'epoch', epoch, 'body', body)
local first = prune(stream, age)
redis.call('PEXPIRE', stream, age)
if before ~= run() then forget(room, (first or offset) - 1) end
emit(shard, candidate, ' ' .. epoch .. ' ' .. offset, body)
return { epoch, offset }
`,
  keeping
)

/** shard, candidate epoch, body. */
export const mark = script(`
local shard, candidate, body = unpack(ARGV)
emit(shard, candidate, '', body)
`)

/** shard, candidate epoch, body, room, node, id, metadata. Tells of it if it is not known. */
export const enter = inOrder(`
local shard, candidate, body, room, node, id, metadata = unpack(ARGV)
-- Who is not known has no lease either: if it does not renew it, its members go.
redis.call('ZADD', prefix .. 'nodes', 'NX', 0, node)
local key, value = prefix .. 'members:' .. room, node .. '\\n' .. metadata
redis.call('SADD', prefix .. 'node:' .. node, shard .. ' ' .. id .. ' ' .. room)
if redis.call('HGET', key, id) == value then return end
redis.call('HSET', key, id, value)
emit(shard, candidate, '', body)
`)

/** shard, candidate epoch, body, room, node, id. */
export const leave = inOrder(`
local shard, candidate, body, room, node, id = unpack(ARGV)
redis.call('SREM', prefix .. 'node:' .. node, shard .. ' ' .. id .. ' ' .. room)
if redis.call('HDEL', prefix .. 'members:' .. room, id) == 1 then emit(shard, candidate, '', body) end
`)

/**
 * shard, candidate epoch, body, room; with a history, also for how many milliseconds the room is remembered, and the epochs
 * and offsets of positions that were seen. If Redis has lost one, no position of before counts any more, and the body tells all.
 *
 * Gives the epoch and the sequence of the shard, the members (id, "node\nmetadata", id, ...) and, with a history, the epoch
 * and the last offset of the room.
 */
export const snapshot = script(
  `
local shard, candidate, body, room, remember = unpack(ARGV)
local lost
for i = 6, #ARGV, 2 do
  local upTo, lossBeyond = endOf(room, ARGV[i])
  if tonumber(ARGV[i + 1]) > (upTo or lossBeyond) then lost = math.max(lost or 0, losses(ARGV[i]) + 1) end
end
if lost then
  local epoch = int(lost) .. '-' .. candidate
  redis.call('HSET', prefix .. 'history:' .. room, 'epoch', epoch, 'run', run())
  forget(room, math.huge)
  emit(shard, candidate, '', body)
end
local reply = {
  epochOf(shard, candidate),
  redis.call('HGET', prefix .. 'shard:' .. shard, 'seq') or '0',
  redis.call('HGETALL', prefix .. 'members:' .. room)
}
if remember then
  local epoch, last = historyOf(room, candidate, remember)
  table.insert(reply, epoch)
  table.insert(reply, int(last))
end
return reply
`,
  keeping
)

/** room, milliseconds, room, ...: remembers the epochs and the last offsets of rooms for so long. */
export const remember = script(`
for i = 1, #ARGV, 2 do redis.call('PEXPIRE', prefix .. 'history:' .. ARGV[i], ARGV[i + 1]) end
`)

/**
 * room, epoch, offset, perhaps how many at most; a negative offset stands for all. Gives the epoch, the last offset, and what is
 * kept after the offset (an id, the epoch and a body each), the oldest first; nothing if that is not all there was.
 */
export const since = script(
  `
local room, epoch, offset, count = unpack(ARGV)
offset = tonumber(offset)
local known = redis.call('HMGET', prefix .. 'history:' .. room, 'epoch', 'run', 'offset', 'age')
if not known[1] then return false end
local last = tonumber(known[3] or '0')
local stream = prefix .. 'stream:' .. room
local first = prune(stream, tonumber(known[4] or '0')) or last + 1
if offset < 0 then
  offset = first - 1
else
  local upTo = endOf(room, epoch)
  if not upTo or offset > upTo or offset + 1 < first then return false end
end
-- A message keeps its position while that counts.
local current = known[1] .. '.' .. known[2]
local kept = {}
local limit = count and { 'COUNT', count } or {}
for _, entry in ipairs(redis.call('XRANGE', stream, int(offset + 1), '+', unpack(limit))) do
  table.insert(kept, entry[1])
  local named = entry[2][2]
  table.insert(kept, string.sub(named, 1, #known[1] + 1) == known[1] .. '.' and named or current)
  table.insert(kept, entry[2][4])
end
return { current, int(last), kept }
`,
  keeping
)

/**
 * candidate epoch, node, milliseconds. Renews the lease of a node, and removes one whose lease has run out. In a new run, and
 * if the node's own has run out and nobody has removed it, all leases begin anew, as nobody could renew them. Gives whether
 * the node itself was not known (it was removed, or Redis has lost what it knew), whether one was removed (there may be more),
 * and the run.
 */
export const lease = script(
  `
local candidate, node, ttl = unpack(ARGV)
local nodes, time = prefix .. 'nodes', now()
local own = tonumber(redis.call('ZSCORE', nodes, node) or '0')
if redis.call('GETSET', prefix .. 'run', run()) ~= run() or (own > 0 and own <= time) then
  for _, each in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do redis.call('ZADD', nodes, int(time + ttl), each) end
end
redis.call('ZADD', nodes, int(time + ttl), node)
local dead = redis.call('ZRANGEBYSCORE', nodes, '-inf', int(time), 'LIMIT', 0, 1)[1]
if dead then reap(dead, candidate) end
return { own == 0 and 1 or 0, dead and 1 or 0, run() }
`,
  removing
)

/** node. Gives the members of a node, as "shard id room". */
export const entered = script(`
return redis.call('SMEMBERS', prefix .. 'node:' .. ARGV[1])
`)

/** candidate epoch, node: removes a node that goes. */
export const release = script(
  `
local candidate, node = unpack(ARGV)
reap(node, candidate)
`,
  removing
)
