/**
 * What Redis does by itself, in one step each. Every script gets the prefix of all keys first.
 *
 * A room belongs to one of a fixed number of shards. A shard is a channel and, under `shard:n`, an epoch and a sequence: the
 * epoch is made when Redis knows of none, and the sequence counts all that was ever published on the channel. So whoever
 * listens knows whether something is missing.
 *
 * - `members:room` holds the members of a room: the id, and "node\nmetadata".
 * - `node:id` holds those of a node: "shard id room".
 * - `nodes` holds when the leases of the nodes run out, by the clock of Redis.
 * - `history:room` holds the epoch and the last offset of a room, and `stream:room` what it has kept, under "offset-time".
 */
import { createHash } from "node:crypto"

export interface Script {
  readonly lua: string
  readonly sha: string
}

const common = `
local prefix = table.remove(ARGV, 1)

local function int(number) return string.format('%.0f', number) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function emit(shard, candidate, position, body)
  local key = prefix .. 'shard:' .. shard
  redis.call('HSETNX', key, 'epoch', candidate)
  local seq = redis.call('HINCRBY', key, 'seq', 1)
  local head = redis.call('HGET', key, 'epoch') .. ' ' .. int(seq) .. position
  redis.call('PUBLISH', prefix .. 'channel:' .. shard, head .. '\\n' .. body)
end

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

local function epochOf(room, candidate, remember)
  local key = prefix .. 'history:' .. room
  redis.call('HSETNX', key, 'epoch', candidate)
  redis.call('PEXPIRE', key, remember)
  return redis.call('HGET', key, 'epoch'), tonumber(redis.call('HGET', key, 'offset') or '0')
end
`

const script = (source: string): Script => {
  const lua = common + source
  return { lua, sha: createHash("sha1").update(lua).digest("hex") }
}

/**
 * shard, candidate epoch, body, room; with a history, also how many messages and for how many milliseconds it keeps them, and
 * for how many the room is remembered.
 */
export const publish = script(`
local shard, candidate, body, room, messages, age, remember = unpack(ARGV)
local position = ''
if messages then
  local epoch = epochOf(room, candidate, remember)
  redis.call('HSET', prefix .. 'history:' .. room, 'age', age)
  local offset = redis.call('HINCRBY', prefix .. 'history:' .. room, 'offset', 1)
  local stream = prefix .. 'stream:' .. room
  redis.call('XADD', stream, 'MAXLEN', messages, int(offset) .. '-' .. int(now()), 'body', body)
  prune(stream, age)
  redis.call('PEXPIRE', stream, age)
  position = ' ' .. epoch .. ' ' .. int(offset)
end
emit(shard, candidate, position, body)
`)

/** shard, candidate epoch, body. */
export const mark = script(`
local shard, candidate, body = unpack(ARGV)
emit(shard, candidate, '', body)
`)

/** shard, candidate epoch, body, room, node, id, metadata. */
export const enter = script(`
local shard, candidate, body, room, node, id, metadata = unpack(ARGV)
redis.call('HSET', prefix .. 'members:' .. room, id, node .. '\\n' .. metadata)
redis.call('SADD', prefix .. 'node:' .. node, shard .. ' ' .. id .. ' ' .. room)
emit(shard, candidate, '', body)
`)

/** shard, candidate epoch, body, room, node, id. */
export const leave = script(`
local shard, candidate, body, room, node, id = unpack(ARGV)
redis.call('SREM', prefix .. 'node:' .. node, shard .. ' ' .. id .. ' ' .. room)
if redis.call('HDEL', prefix .. 'members:' .. room, id) == 1 then emit(shard, candidate, '', body) end
`)

/**
 * shard, candidate epoch, room; with a history, also for how many milliseconds the room is remembered. Gives the epoch and
 * the sequence of the shard, the members (id, "node\nmetadata", id, ...) and, with a history, the epoch and the last offset
 * of the room.
 */
export const snapshot = script(`
local shard, candidate, room, remember = unpack(ARGV)
local key = prefix .. 'shard:' .. shard
redis.call('HSETNX', key, 'epoch', candidate)
local reply = {
  redis.call('HGET', key, 'epoch'),
  redis.call('HGET', key, 'seq') or '0',
  redis.call('HGETALL', prefix .. 'members:' .. room)
}
if remember then
  local epoch, last = epochOf(room, candidate, remember)
  table.insert(reply, epoch)
  table.insert(reply, int(last))
end
return reply
`)

/** room, milliseconds, room, ...: remembers the epochs and the last offsets of rooms for so long. */
export const remember = script(`
for i = 1, #ARGV, 2 do redis.call('PEXPIRE', prefix .. 'history:' .. ARGV[i], ARGV[i + 1]) end
`)

/**
 * room, epoch, offset, perhaps how many at most; an empty epoch stands for all. Gives the epoch, the last offset, and what is
 * kept after the offset (pairs of an id and a body), the oldest first; nothing if that is not all there was.
 */
export const since = script(`
local room, epoch, offset, count = unpack(ARGV)
offset = tonumber(offset)
local known = redis.call('HMGET', prefix .. 'history:' .. room, 'epoch', 'offset', 'age')
if not known[1] then return false end
local last = tonumber(known[2] or '0')
local stream = prefix .. 'stream:' .. room
local first = prune(stream, tonumber(known[3] or '0')) or last + 1
if epoch == '' then
  offset = first - 1
elseif epoch ~= known[1] or offset > last or offset + 1 < first then
  return false
end
local kept = {}
local limit = count and { 'COUNT', count } or {}
for _, entry in ipairs(redis.call('XRANGE', stream, int(offset + 1), '+', unpack(limit))) do
  table.insert(kept, entry[1])
  table.insert(kept, entry[2][2])
end
return { known[1], int(last), kept }
`)

/**
 * candidate epoch, node, milliseconds. Renews the lease of a node, and removes one whose lease has run out. Gives whether the
 * node itself was not known (it was removed, or Redis has lost what it knew), and whether one was removed: there may be more.
 */
export const lease = script(`
local candidate, node, ttl = unpack(ARGV)
local time = now()
local isNew = redis.call('ZADD', prefix .. 'nodes', int(time + ttl), node)
local dead = redis.call('ZRANGEBYSCORE', prefix .. 'nodes', '-inf', int(time), 'LIMIT', 0, 1)[1]
if dead then reap(dead, candidate) end
return { isNew, dead and 1 or 0 }
`)

/** candidate epoch, node: removes a node that goes. */
export const release = script(`
local candidate, node = unpack(ARGV)
reap(node, candidate)
`)
