-- Merges one instance's batch into the shared limits, all of it or nothing; the only code of ours that runs in Redis.
--
-- KEYS[1]   sequence key: the number of the last batch applied for this instance
-- KEYS[2]   members key: sorted set, instance -> its last sign of life, server time in ms
-- KEYS[3]   notices key: sorted set, fingerprint of a key that was made as good as new (all 0: every key) -> when, in us
-- KEYS[4..] per entry, the bucket, the window or the holders it is about; a key may come twice
-- ARGV[1]   header and rules; ARGV[2] entries: wire.py, beside this file, says what is in them
-- ARGV[3]   the instance, 16 hex digits
-- Returns   one string, laid out in wire.py; times in us since 2025-01-01 UTC by the server's clock, amounts in units.
--           Behind it, to a batch with a beat, the fingerprints in KEYS[3] since the header's heard_us
-- Errors    PENSTOCK malformed batch; PENSTOCK foreign value at a key of ours. Nothing has been written then.
--
-- Stored    bucket '<dfI4': tat (us: when it is full again), demand (units/s), as of when (ms mod 2^32)
--           window '<I4ddfI4': its number (mod 2^32), its count, the count of the one before, demand, as of when
--           holders '<fI4': demand, as of when; and for each instance that has any '<c16I4d': who, units, until when (ms)
--
-- Needs     MGET EXISTS GET SET UNLINK TIME ZCOUNT ZADD ZREMRANGEBYSCORE ZRANGEBYSCORE ZSCORE ZCARD PEXPIRE PTTL, of Redis
--           6.2 or Valkey
--
-- Whatever can fail is done before the first write, since Redis does not take back what a failed script wrote.
-- Numbers are doubles: exact for whole ones below 2^53, and a tat in us stays far below that.

local EPOCH_S, VERSION, WRAP = 1735689600, 2, 4294967296
local HEADER, RULE, ENTRY, OWN = 30, 41, 32, 3
local BUCKET, SLIDING, HELD = 0, 2, 3
local OK, DUP, LOST = 0, 1, 2
local MEMBER_MS, MEMBERS_TTL_MS, SEQUENCE_TTL_MS, STATE_TTL_MS = 3000, '60000', '120000', 2000
local EVERYTHING, NOTICES_MOST, NOTICES_TTL_MS = ('\0'):rep(8), 500, 120000
local HEAD_OF_HELD, HOLDER, BACK_MS = 8, 28, 3600000
local SIZES = {[0] = 16, 28, 28}

local call, unpack_from, pack = redis.call, struct.unpack, struct.pack
local floor, ceil, max, min, exp, format = math.floor, math.ceil, math.max, math.min, math.exp, string.format

local header, entries, inst = ARGV[1], ARGV[2], ARGV[3]
if #ARGV ~= 3 or #header < HEADER or #inst ~= 16 then
  return redis.error_reply('PENSTOCK malformed batch')
end
local seq, acked, beat, interval_us, count, rule_count, flags, version, heard_us = unpack_from('<I4I4I4I4HHBBd', header)
if version ~= VERSION then
  return redis.error_reply('PENSTOCK header: version=' .. version .. '; this script speaks version ' .. VERSION)
end
if #header ~= HEADER + rule_count * RULE or #entries ~= count * ENTRY or #KEYS ~= count + OWN then
  return redis.error_reply('PENSTOCK malformed batch')
end
local restore, forget = flags % 2 == 1, flags >= 2
local kinds, taus, bursts, debts = {}, {}, {}, {}
for i = 0, rule_count - 1 do
  kinds[i], taus[i], bursts[i], debts[i] = unpack_from('<Bddd', header, HEADER + i * RULE + 1)
end

-- What is stored, each of it checked.
local foreign = {err = 'PENSTOCK foreign value at a key of ours'}
local stored = {}
if count > 0 then
  stored = call('MGET', unpack(KEYS, OWN + 1))
  local missing = {}
  for i = 1, count do
    local kind = kinds[unpack_from('<H', entries, (i - 1) * ENTRY + 1)]
    if not kind then
      return redis.error_reply('PENSTOCK malformed batch')
    end
    local value = stored[i]
    if not value then
      missing[#missing + 1] = KEYS[i + OWN]
    elseif kind == HELD and (#value < HEAD_OF_HELD or (#value - HEAD_OF_HELD) % HOLDER ~= 0) then
      return foreign
    elseif kind ~= HELD and #value ~= SIZES[kind] then
      return foreign
    end
  end
  -- MGET calls a list or a hash missing too; SET would put our value in its place.
  if #missing > 0 and call('EXISTS', unpack(missing)) > 0 then
    return foreign
  end
end
local last = redis.pcall('GET', KEYS[1])
last = not last and 0 or type(last) == 'string' and tonumber(last)
if not last then
  return foreign
end
local time = call('TIME')
local now = (time[1] - EPOCH_S) * 1000000 + time[2]
local now_ms = floor(now / 1000)

local oldest = format('%.0f', now_ms - MEMBER_MS)
local members = redis.pcall('ZCOUNT', KEYS[2], oldest, '+inf')
local cleared = redis.pcall('ZSCORE', KEYS[3], EVERYTHING)
if type(members) == 'table' or type(cleared) == 'table' then
  return foreign
end
local cleared_ms = cleared and floor(cleared / 1000)

-- First write. Redis refuses it where it takes no writes at all (a full memory, a replica), and then none is done.
if beat ~= 0 then
  local stamp = format('%.0f', now_ms)
  call('ZADD', KEYS[2], stamp, inst)
  call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. oldest)
  -- After the server's clock went back: signs of life from its future count from now on.
  for _, member in ipairs(call('ZRANGEBYSCORE', KEYS[2], '(' .. stamp, '+inf')) do
    call('ZADD', KEYS[2], stamp, member)
  end
  call('PEXPIRE', KEYS[2], MEMBERS_TTL_MS)
  members = call('ZCARD', KEYS[2])
end
local notices = ''
if beat ~= 0 and heard_us > 0 then
  local since = format('(%.0f', heard_us)
  local listed = call('ZRANGEBYSCORE', KEYS[3], since, '+inf', 'LIMIT', 0, NOTICES_MOST + 1)
  notices = #listed > NOTICES_MOST and EVERYTHING or table.concat(listed)
end

local status = OK
if seq <= last then
  status = DUP
elseif last ~= acked and not restore then
  return pack('<BBHI4d', LOST, VERSION, 0, members, now) .. notices
end
local apply = status == OK

local clock = now_ms % WRAP
local interval_s = interval_us / 1000000
local decay_s = max(1, 4 * interval_s)

-- Units/s asked of all instances: what was stored, faded, and what this entry adds.
local function demand_of(demand, at, seen)
  if demand > 0 then
    local passed = (clock - at) % WRAP
    if passed < WRAP / 2 then -- else the server's clock went back
      demand = demand * exp(-passed / 1000 / decay_s)
    end
  end
  return apply and demand + seen / decay_s or demand
end

-- Units leased of a room: what is wanted, but where demand exceeds the room no more than a fair part of it.
local function grant_of(want, room, demand, seen)
  if want == 0 or room < 1 then
    return 0
  end
  local granted = min(want, floor(room))
  local asked = demand * interval_s
  if asked * 1.5 > room then
    granted = min(granted, max(1, floor(room * seen / asked)))
  end
  return granted
end

local answers, fresh = {pack('<BBHI4d', status, VERSION, count, members, now)}, {}

-- Removes what is stored; what cannot be found by its name, that is everything, counts as older than the notice.
local function forget_all()
  local ttl = max(NOTICES_TTL_MS, call('PTTL', KEYS[3]))
  call('ZREMRANGEBYSCORE', KEYS[3], '-inf', format('(%.0f', now - NOTICES_TTL_MS * 1000))
  if cleared then
    call('ZADD', KEYS[3], cleared, EVERYTHING)
  end
  for i = 1, count do
    local _, _, low, high, keep_ms = unpack_from('<HHI4I4I4', entries, (i - 1) * ENTRY + 1)
    call('UNLINK', KEYS[i + OWN])
    call('ZADD', KEYS[3], format('%.0f', now), pack('<I4I4', low, high))
    ttl = max(ttl, keep_ms)
  end
  call('PEXPIRE', KEYS[3], format('%.0f', ttl))
end

-- A value as it is now: nil when it was written before everything was forgotten. One that looks older than 49 days by an
-- hour at most was written before the server's clock went back.
local function remembered(value, at_place)
  if not value or not cleared or cleared_ms > now_ms then
    return value
  end
  local age = (clock - unpack_from('<I4', value, at_place)) % WRAP
  if age < now_ms - cleared_ms or age >= WRAP - BACK_MS then
    return value
  end
end

-- Who holds how many units until when, those whose time is over left out: an absolute account, so that to be told twice
-- is to be told once. Returns the new value, the room left, what this instance has, the grant, and the time to keep it.
local function hold(value, demand, debt, want, seen, lease_ms, limit)
  local kept, taken, mine, latest = {}, 0, 0, now_ms
  for place = HEAD_OF_HELD + 1, value and #value or 0, HOLDER do
    local who, units, until_ms = unpack_from('<c16I4d', value, place)
    if until_ms > now_ms and not (cleared and cleared_ms <= now_ms and until_ms - lease_ms <= cleared_ms) then
      if who == inst then
        mine = units
      else
        taken, latest = taken + units, max(latest, until_ms)
        kept[#kept + 1] = value:sub(place, place + HOLDER - 1)
      end
    end
  end
  local granted = 0
  if apply then
    granted = grant_of(want, limit - taken - debt, demand, seen)
    mine = debt + granted
    if mine > 0 then
      latest = now_ms + lease_ms
      kept[#kept + 1] = pack('<c16I4d', inst, mine, latest)
    end
  end
  return pack('<fI4', demand, clock) .. table.concat(kept), limit - taken - mine, mine, granted, latest - now_ms
end

if apply and forget then
  forget_all()
end
for i = 1, forget and 0 or count do
  local rule, before, debt, back, want, age_us, seen, known =
    unpack_from('<HHI4I4I4I4I4d', entries, (i - 1) * ENTRY + 1)
  local tau, burst, key = taus[rule], bursts[rule], KEYS[i + OWN]
  local value = fresh[key]
  local granted, a, b, demand, ttl = 0
  if kinds[rule] == HELD then
    value = value or stored[i]
    local old, at = 0, 0
    if value then
      old, at = unpack_from('<fI4', value)
    end
    demand = demand_of(old, at, seen)
    value, a, b, granted, ttl = hold(value, demand, debt, want, seen, floor(tau / 1000), burst)
    ttl = max(ttl, STATE_TTL_MS)
  elseif kinds[rule] == BUCKET then
    value = value or remembered(stored[i], 13)
    local tat, old, at = 0, 0, 0
    if value then
      tat, old, at = unpack_from('<dfI4', value)
    end
    demand = demand_of(old, at, seen)
    if apply then
      if restore then
        tat = max(tat, known)
      end
      tat = max(tat, now - age_us) + (debt - back) * tau
      tat = min(tat, now + (burst + debts[rule]) * tau)
      granted = grant_of(want, burst - (max(tat, now) - now) / tau, demand, seen)
      if granted > 0 then
        tat = max(tat, now) + granted * tau
      end
      value = pack('<dfI4', tat, demand, clock)
      ttl = max(0, ceil((tat - now) / 1000)) + STATE_TTL_MS
    end
    a, b = burst - (max(tat, now) - now) / tau, tat
  else
    value = value or remembered(stored[i], 25)
    local number, cur, prev, old, at = floor(now / tau), 0, 0, 0, 0
    if value then
      local of, its_cur, its_prev
      of, its_cur, its_prev, old, at = unpack_from('<I4ddfI4', value)
      local turned = (number - of) % WRAP
      if turned == 0 or turned >= WRAP / 2 then -- the server's clock went back: what it knows counts now
        cur, prev = its_cur, its_prev
      elseif turned == 1 then
        prev = its_cur
      end
    end
    demand = demand_of(old, at, seen)
    if apply then
      if restore and before == 0 then
        cur = max(cur, known)
      elseif restore then
        prev = max(prev, known)
      end
      local ago, most = number - floor((now - age_us) / tau), burst + debts[rule]
      if ago <= 0 then
        cur = min(max(cur + (debt - back), 0), most)
      elseif ago == 1 then
        prev = min(max(prev + (debt - back), 0), most)
      end
      local room = burst - cur
      if kinds[rule] == SLIDING then
        room = room - prev * (1 - (now - number * tau) / tau)
      end
      granted = grant_of(want, room, demand, seen)
      cur = cur + granted
      value = pack('<I4ddfI4', number % WRAP, cur, prev, demand, clock)
      ttl = ceil(2 * tau / 1000) + STATE_TTL_MS
    end
    a, b = cur, prev
  end
  if apply then
    call('SET', key, value, 'PX', format('%.0f', ttl))
    fresh[key] = value
  end
  answers[i + 1] = pack('<ddI4f', a, b, granted, demand)
end
if forget then
  answers[2] = pack('<ddI4f', 0, 0, 0, 0):rep(count)
end
if apply then
  call('SET', KEYS[1], format('%.0f', seq), 'PX', SEQUENCE_TTL_MS)
end
return table.concat(answers) .. notices
