-- ARGV: owner or nothing, what is there or nothing, the token, its life in milliseconds, how a placeholder begins
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 2 end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' and kind ~= 'none' then return 1 end
local there = redis.call('GET', KEYS[1]) or ''
-- A placeholder is as good as nothing.
if string.sub(there, 1, #ARGV[5]) == ARGV[5] then there = '' end
-- A ticket that may expire at any time has a question mark before it.
if there ~= ARGV[2] and there ~= '?' .. ARGV[2] then return 1 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
if KEYS[6] then
    local at = tonumber(redis.call('TIME')[1]) + math.floor(tonumber(ARGV[4]) / 1000)
    redis.call('SET', KEYS[6], string.format('%d', at), 'PX', ARGV[4])
end
redis.call('DEL', KEYS[2], KEYS[3])
return 0
