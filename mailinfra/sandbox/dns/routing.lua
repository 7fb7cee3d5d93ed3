-- Decides an answer from a tree that translate.py wrote: return mailinfra{policy='weighted', {weight=70, values={'198.51.100.1'}}, ...}
-- A health check that fails is a file of the prober's in DOWN; everything else about a member counts as healthy.

local DOWN = MAILINFRA_DOWN or '/run/mailinfra-health/down/'
local MULTIVALUE_LIMIT = 8

local function down(check)
  local file = check and io.open(DOWN .. check)
  if file then
    file:close()
    return true
  end
  return false
end

local healthy

local function healthy_addresses(node)
  local found = {}
  for _, pair in ipairs(node.addresses) do
    if not down(pair[2]) then found[#found + 1] = pair[1] end
  end
  return found
end

function healthy(node)
  if down(node.check) then return false end
  if node.alias then return not node.evaluate or healthy(node.alias) end
  if node.addresses then return #node.addresses == 0 or #healthy_addresses(node) > 0 end
  if node.policy then
    for _, member in ipairs(node) do
      if healthy(member) then return true end
    end
    return #node == 0
  end
  return true
end

local function any() return true end

-- One of the members, each as likely as its weight says; pickwrandom is PowerDNS's own.
local function draw(members, weight_of)
  if #members == 0 then return nil end
  local lots = {}
  for i, member in ipairs(members) do lots[i] = {weight_of(member), tostring(i)} end
  return members[tonumber(pickwrandom(lots))]
end

local function equal() return 1 end

local pick = {}

function pick.weighted(node, ok)
  local heavy, light = {}, {}
  for _, member in ipairs(node) do
    if ok(member) then
      local list = member.weight > 0 and heavy or light
      list[#list + 1] = member
    end
  end
  if #heavy > 0 then return draw(heavy, function(member) return member.weight end) end
  return draw(light, equal)
end

-- The most specific place first: state, country, continent, everywhere.
local function specificity(place)
  if place == '*' then return 1 end
  local continent_code = place:match('^continent:(%a%a)$')
  if continent_code then return continent(continent_code) and 2 end
  local country_code, state = place:match('^(%a%a)%-(.+)$')
  if country_code then return country(country_code) and region(state) and 4 end
  return country(place) and 3
end

function pick.location(node, ok)
  local best, rank = nil, 0
  for _, member in ipairs(node) do
    local found = specificity(member.place)
    if found and found > rank and ok(member) then best, rank = member, found end
  end
  return best
end

-- Great-circle distance on a unit sphere.
local function distance(lat1, lon1, lat2, lon2)
  local rad = math.pi / 180
  local a = math.sin((lat2 - lat1) * rad / 2) ^ 2
    + math.cos(lat1 * rad) * math.cos(lat2 * rad) * math.sin((lon2 - lon1) * rad / 2) ^ 2
  return 2 * math.asin(math.min(1, math.sqrt(a)))
end

function pick.nearest(node, ok)
  local lat, lon = latlon():match('^(%S+) (%S+)$')
  lat, lon = tonumber(lat), tonumber(lon)
  local unknown = lat == 0 and lon == 0
  local best, least = nil, math.huge
  for i, member in ipairs(node) do
    if node.fenced or ok(member) then
      local far = unknown and i or distance(lat, lon, member.latitude, member.longitude)
      if far < least then best, least = member, far end
    end
  end
  return best
end

function pick.failover(node, ok)
  if node.trickle and node[2] and ok(node[2]) then
    local share = math.floor(node.trickle * 1000 + 0.5)
    if share >= 1000 or share > 0 and pickwrandom({{share, 'backup'}, {1000 - share, 'primary'}}) == 'backup' then
      return node[2]
    end
  end
  for _, member in ipairs(node) do
    if ok(member) then return member end
  end
  return nil
end

-- Up to eight values of as many healthy members, in random order.
local function multivalue(node)
  local members, values = {}, {}
  for _, member in ipairs(node) do
    if healthy(member) then members[#members + 1] = member end
  end
  if #members == 0 then
    for i, member in ipairs(node) do members[i] = member end
  end
  while #members > 0 and #values < MULTIVALUE_LIMIT do
    local member = draw(members, equal)
    for i, other in ipairs(members) do
      if other == member then table.remove(members, i) break end
    end
    for _, value in ipairs(member.values or {}) do values[#values + 1] = value end
  end
  return values
end

local function answer(node)
  if node.alias then return answer(node.alias) end
  if node.policy == 'multivalue' then return multivalue(node) end
  if node.policy then
    -- Where no member is healthy, all count as healthy.
    local member = pick[node.policy](node, healthy) or pick[node.policy](node, any)
    return member and answer(member) or {}
  end
  if node.addresses then
    local found = healthy_addresses(node)
    if #found == 0 then
      for i, pair in ipairs(node.addresses) do found[i] = pair[1] end
    end
    return found
  end
  return node.values or {}
end

return answer
