-- KEYS: token, lease, note, fetches, replicas, and maybe expires_at
local token = redis.call('GET', KEYS[1])
local lives = -2
if token then
    lives = redis.call('PTTL', KEYS[1])
    if lives == -1 then
        -- Somebody wrote it without an expiry: believe what stands beside it, or look again soon.
        lives = 300000
        local at = KEYS[6] and tonumber(redis.call('GET', KEYS[6]) or '')
        if at then lives = math.max(0, at - redis.call('TIME')[1]) * 1000 end
    end
end
return {token, lives, redis.call('GET', KEYS[3]), redis.call('EXISTS', KEYS[2])}
