/*
 * The live table: newest row first, as client.js brings them. ECMAScript 5 and no library: signage
 * sets run browsers from 2014.
 *
 * Parameters of the page's own address go along, so `/?doorno=1,2` shows two doors.
 */
(function () {
  'use strict';

  var KEEP = 200;       // rows in the page; it runs for months
  var FIRST = 100;      // rows to begin with
  var FAULT_MS = 30000; // without a connection, until the mark turns red

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

  // The page's own parameters, without those that say where to begin.
  function passedOn() {
    var own = /^(since|last|last_event_id|lastEventId|timeout|limit|maxvid)(=|$)/;
    return location.search.replace(/^\?/, '').split('&').filter(function (part) {
      return part && !own.test(part);
    }).join('&');
  }

  // ---- The table ----

  var columns = [];
  var items = []; // newest first: {id, row} or {gap}

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

  function showGap(gap) {
    if (items.length > 0 && !items[0].gap) { add({ gap: gap.reason }, false); }
  }

  // ---- The state of the connection ----

  // What comes with the first answer is history, and does not light up.
  var begun = false;
  var fault = null;

  function begin() {
    begun = true;
    document.body.className = 'begun';
  }

  function say(kind, text) {
    byId('state').className = kind;
    byId('says').textContent = text;
  }

  function showState(state, why) {
    if (state === 'lost') {
      if (fault === null) { fault = setTimeout(function () { byId('state').className = 'fault'; }, FAULT_MS); }
      say(byId('state').className === 'fault' ? 'fault' : 'wait', why || words.lost);
      return;
    }
    clearTimeout(fault);
    fault = null;
    say('live', words[state]);
    byId('empty').textContent = words.empty;
    byId('empty').hidden = items.length > 0;
    if (!begun) { setTimeout(begin, state === 'live' ? 1000 : 0); }
  }

  // ---- The clock ----

  var drawn = '';

  function two(number) { return (number < 10 ? '0' : '') + number; }

  function tick() {
    var now = new Date(link.now());
    var time = two(now.getHours()) + ':' + two(now.getMinutes());
    if (time !== drawn) {
      drawn = time;
      byId('clock').textContent = time;
    }
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
  var link = doorcast.connect({
    params: passedOn(),
    first: { last: FIRST },
    onrow: function (row, id) { add({ id: id, row: row }, begun); },
    ongap: showGap,
    onstate: showState
  });
  setInterval(tick, 1000);
  tick();
  askName();
}());
