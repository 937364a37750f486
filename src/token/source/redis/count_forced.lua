-- ARGV: the most in 24 hours
-- The reply is 0 if this one was counted, or in how many milliseconds there is room again.
local forced = redis.call('GET', KEYS[4])
if tonumber(forced or 0) >= tonumber(ARGV[1]) then
    return math.max(redis.call('PTTL', KEYS[4]), 1)
end
if redis.call('INCR', KEYS[4]) == 1 then
    redis.call('PEXPIRE', KEYS[4], 86400000)
end
return 0
