-- KEYS: token, lease, note, fetches, replicas, and maybe expires_at
local kind = redis.call('TYPE', KEYS[1]).ok
local token, lives = false, -2
if kind == 'string' then
    token = redis.call('GET', KEYS[1])
    lives = redis.call('PTTL', KEYS[1])
    if lives == -1 then
        -- Somebody wrote it without an expiry: believe what stands beside it, or look again soon.
        lives = 300000
        local at = KEYS[6] and redis.call('GET', KEYS[6])
        at = tonumber(at or '')
        if at then lives = math.max(0, at - redis.call('TIME')[1]) * 1000 end
    end
end
local note = redis.call('GET', KEYS[3])
return {kind, token, lives, note, redis.call('EXISTS', KEYS[2])}
