/*
 * The live table: newest row first, by server-sent events, or by long poll where those don't come
 * through. ECMAScript 5 and no library: signage sets run browsers from 2014.
 *
 * Parameters of the page's own address go along, so `/?doorno=1,2` shows two doors.
 */
(function () {
  'use strict';

  var KEEP = 200;               // rows in the page; it runs for months
  var FIRST = 100;              // rows to begin with
  var MISSED_HEARTBEATS = 2.5;  // silence after which the stream counts as lost
  var FIRST_WORD_MS = 10000;    // silence after which a stream that never spoke counts as lost
  var STREAM_TRIES = 2;         // streams without a word before long poll is used
  var STREAM_AGAIN_MS = 600000; // how long to poll before a stream is tried again
  var POLL_S = 25;
  var PAUSE_MS = [1000, 30000];

  var WORDS = {
    en: {
      title: 'Swipes', live: 'Live', polling: 'Live, by polling', connecting: 'Connecting',
      lost: 'Connection lost, trying again', empty: 'Waiting for the first swipe',
      gap: 'Rows may be missing here: '
    },
    zh: {
      title: '刷卡记录', live: '实时', polling: '实时（轮询）', connecting: '正在连接',
      lost: '连接中断，正在重试', empty: '等待第一次刷卡', gap: '此处可能缺少记录：'
    }
  };
  var language = /^zh/i.test(navigator.language || '') ? 'zh' : 'en';
  var words = WORDS[language];

  function byId(id) { return document.getElementById(id); }

  // ---- Parameters ----

  // The page's own parameters, without those that say where to begin.
  function passedOn() {
    var own = /^(since|last|last_event_id|lastEventId|timeout|limit|maxvid)(=|$)/;
    var parts = location.search.replace(/^\?/, '').split('&');
    var kept = [];
    for (var i = 0; i < parts.length; i++) {
      if (parts[i] && !own.test(parts[i])) { kept.push(parts[i]); }
    }
    return kept;
  }

  var cursor = null;

  function address(path, more) {
    var from = cursor === null ? 'last=' + FIRST : 'since=' + encodeURIComponent(cursor);
    return path + '?' + [from].concat(more || [], passedOn()).join('&');
  }

  // ---- The table ----

  var columns = [];
  var items = []; // newest first: {id, row} or {gap}

  // Numbers that a script can't hold exactly are shown as text.
  function parse(json) {
    var token = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
    return JSON.parse(json.replace(token, function (text) {
      return /^-?\d{16,}$/.test(text) ? '"' + text + '"' : text;
    }));
  }

  function cell(value, isFirst) {
    var td = document.createElement('td');
    if (value === null || value === undefined || value === '') {
      td.className = 'none';
      td.textContent = '\u2013';
    } else if (value === 'Y' || value === 'N') {
      var mark = document.createElement('b');
      mark.className = value === 'Y' ? 'yes' : 'no';
      mark.textContent = value;
      td.appendChild(mark);
    } else {
      if (isFirst) { td.className = 'key'; }
      td.textContent = typeof value === 'object' ? JSON.stringify(value) : String(value);
    }
    return td;
  }

  function line(item, isNew) {
    var tr = document.createElement('tr');
    if (item.gap) {
      var td = document.createElement('td');
      td.colSpan = Math.max(columns.length, 1);
      td.textContent = words.gap + item.gap;
      tr.className = 'gap';
      tr.appendChild(td);
      return tr;
    }
    for (var i = 0; i < columns.length; i++) {
      tr.appendChild(cell(item.row[columns[i]], i === 0));
    }
    if (isNew) { tr.className = 'new'; }
    return tr;
  }

  function clear(node) {
    while (node.firstChild) { node.removeChild(node.firstChild); }
  }

  // Draws everything anew, for the columns of a row.
  function layOut(row) {
    columns = Object.keys(row);
    var names = byId('names');
    clear(names);
    for (var i = 0; i < columns.length; i++) {
      var th = document.createElement('th');
      th.textContent = columns[i];
      names.appendChild(th);
    }
    var rows = byId('rows');
    clear(rows);
    for (var n = 0; n < items.length; n++) { rows.appendChild(line(items[n], false)); }
  }

  function add(item, isNew) {
    if (item.row && Object.keys(item.row).join('\n') !== columns.join('\n')) { layOut(item.row); }
    var rows = byId('rows');
    items.unshift(item);
    rows.insertBefore(line(item, isNew), rows.firstChild);
    while (items.length > KEEP) {
      items.pop();
      rows.removeChild(rows.lastChild);
    }
    byId('empty').hidden = true;
  }

  function has(id) {
    for (var i = 0; i < items.length; i++) {
      if (items[i].id === id) { return true; }
    }
    return false;
  }

  function showRow(id, row) {
    if (!has(id)) { add({ id: id, row: row }, begun); }
    cursor = id;
  }

  function showGap(gap) {
    if (items.length > 0 && !items[0].gap) { add({ gap: gap.reason }, false); }
  }

  // ---- The state of the connection ----

  // What comes with the first answer is history, and does not light up.
  var begun = false;
  var failures = 0;

  function begin() {
    begun = true;
    document.body.className = 'begun';
  }

  function say(kind, text) {
    byId('state').className = kind;
    byId('says').textContent = text;
  }

  function connected(text) {
    failures = 0;
    say('live', text);
    byId('empty').textContent = words.empty;
    byId('empty').hidden = items.length > 0;
  }

  function lost(text) {
    failures += 1;
    say(failures > 4 ? 'fault' : 'wait', text || words.lost);
  }

  function pause() {
    var longest = Math.min(PAUSE_MS[1], PAUSE_MS[0] * Math.pow(2, Math.min(failures, 10)));
    return longest * (0.5 + Math.random() / 2);
  }

  // ---- Server-sent events ----

  var source = null;
  var heartbeat = 15000;
  var lastWord = 0;      // when anything came
  var silentStreams = 0; // streams in a row that never said hello
  var timer = null;

  function later(what, ms) {
    clearTimeout(timer);
    timer = setTimeout(what, ms);
  }

  function stream() {
    lastWord = Date.now();
    silentStreams += 1;
    source = new EventSource(address('events'));
    source.addEventListener('hello', function (event) {
      heartbeat = JSON.parse(event.data).heartbeat_ms || heartbeat;
      silentStreams = 0;
      heard(event);
      connected(words.live);
      setTimeout(begin, 1000);
    });
    source.addEventListener('ping', function (event) {
      skew = JSON.parse(event.data).now_ms - Date.now();
      heard(event);
    });
    source.addEventListener('gap', function (event) {
      showGap(JSON.parse(event.data));
      heard(event);
    });
    source.onmessage = function (event) {
      showRow(event.lastEventId, parse(event.data));
      heard(event);
    };
    source.onerror = function () {
      // It comes back by itself, unless it was refused; the watchdog sees to a silent one.
      if (source && source.readyState === 2) { endStream(); }
      else { lost(); }
    };
  }

  function heard(event) {
    lastWord = Date.now();
    if (event.lastEventId) { cursor = event.lastEventId; }
  }

  function endStream() {
    source.close();
    source = null;
    lost();
    if (silentStreams >= STREAM_TRIES) {
      streamAgainAt = Date.now() + STREAM_AGAIN_MS;
      later(poll, 0);
    } else {
      later(stream, pause());
    }
  }

  // ---- Long poll ----

  var streamAgainAt = Infinity;

  function poll() {
    var request = new XMLHttpRequest();
    var over = false;
    // A short wait first, to know soon that the server is there.
    var wait = begun && failures === 0 ? POLL_S : 1;
    // A connection may die without a word.
    var guard = setTimeout(function () { request.abort(); done(); }, (wait + 15) * 1000);

    function done() {
      if (over) { return; }
      over = true;
      clearTimeout(guard);
      if (request.status === 200 && take(request.responseText)) {
        if (Date.now() >= streamAgainAt) {
          silentStreams = STREAM_TRIES - 1;
          later(stream, 0);
        } else {
          later(poll, 0);
        }
        return;
      }
      lost(problem(request));
      later(poll, pause());
    }

    request.onreadystatechange = function () { if (request.readyState === 4) { done(); } };
    request.open('GET', address('poll', ['timeout=' + wait, '_=' + Date.now()]), true);
    request.send();
  }

  function take(text) {
    var answer;
    try { answer = parse(text); } catch (error) { return false; }
    if (answer.gap) { showGap(answer.gap); }
    for (var i = 0; i < answer.events.length; i++) {
      showRow(answer.events[i].id, answer.events[i].row);
    }
    cursor = answer.next;
    begin();
    // The server was away: perhaps it was only that, and streams come through.
    if (failures > 0 && streamAgainAt !== Infinity) { streamAgainAt = Date.now(); }
    connected(words.polling);
    return true;
  }

  // What the server says is wrong, where it says so.
  function problem(request) {
    try {
      var error = JSON.parse(request.responseText).error;
      if (error.code === 'bad_since') { cursor = null; }
      return request.status === 400 ? error.message : '';
    } catch (error) {
      return '';
    }
  }

  // ---- Clock and watchdog ----

  var skew = 0; // how far the server's clock is ahead of this one
  var drawn = '';

  function two(number) { return (number < 10 ? '0' : '') + number; }

  function tick() {
    var now = new Date(Date.now() + skew);
    var time = two(now.getHours()) + ':' + two(now.getMinutes());
    if (time !== drawn) {
      drawn = time;
      byId('clock').textContent = time;
    }
    var patience = silentStreams > 0 ? FIRST_WORD_MS : heartbeat * MISSED_HEARTBEATS;
    if (source && Date.now() - lastWord > patience) { endStream(); }
  }

  // The name of the table, where the server tells it.
  function askName() {
    var request = new XMLHttpRequest();
    request.onreadystatechange = function () {
      if (request.readyState !== 4 || request.status !== 200) { return; }
      try { byId('table').textContent = JSON.parse(request.responseText).table || ''; } catch (error) { return; }
    };
    request.open('GET', 'api/status', true);
    request.send();
  }

  document.documentElement.lang = language;
  byId('title').textContent = words.title;
  say('wait', words.connecting);
  setInterval(tick, 1000);
  tick();
  askName();
  if (window.EventSource) { stream(); } else { poll(); }
}());
