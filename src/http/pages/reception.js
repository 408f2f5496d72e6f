/*
 * The reception: who is greeted, and how. ECMAScript 5 and no library. What may be asked stands at the
 * head of the server's reception.rs; all text from there is shown by textContent.
 */
(function () {
  'use strict';

  var LOOK_MS = 5000;     // between two looks at cards and screens
  var PREVIEW_MS = 300;   // after the last key
  var PHOTO_BYTES = 2 * 1024 * 1024;
  var FIELDS = ['name', 'title', 'message', 'valid_from', 'valid_to', 'priority', 'lang'];

  var WORDS = {
    en: {
      reception: 'Reception', skip: 'Skip to people', unknown: 'Unknown cards', screens: 'Screens',
      people: 'People who are greeted', add: 'Add a person', search: 'Search by name, title or message',
      testDoor: 'Show a test at door', show: 'Show', welcome: 'Welcome this card', edit: 'Edit', door: 'door ',
      doors: 'Doors', allDoors: 'all doors', times: ' times', ago: ' ago', card: 'Card id',
      name: 'Name', title: 'Title', message: 'Message', from: 'From (day)', to: 'Until (day)', priority: 'Priority',
      lang: 'Language', asSite: 'As the site', photo: 'Photo', choose: 'Choose a photo', noPhoto: 'No photo',
      save: 'Save', cancel: 'Cancel', remove: 'Delete', save2: 'Saved', removed: 'Deleted: ',
      hint: 'May hold {name} {title} {greeting} {door}. Empty: as for everybody.',
      noCards: 'None yet. Hold a card to a reader, and it appears here.', noScreens: 'None is connected.',
      noPeople: 'Nobody yet.', newPerson: 'New person', shown: 'Shown on screens: ', away: 'The server does not answer.',
      tooLarge: 'The photo is larger than 2 MB.', notPhoto: 'A photo is a JPEG or a PNG file.',
      notToday: 'not today', sure: 'Really delete? Press again.',
      preview: 'Preview: ', line: 'Line ', bad: 'The people file cannot be used; the last good one is still in use:',
      warn: 'To look at in the people file:', quiet: 'never answered', answered: 'answered ', of: ' of ', person: ' person', persons: ' people',
      since: 'from ', until: 'until '
    },
    zh: {
      reception: '前台', skip: '跳到人员', unknown: '未登记的卡', screens: '屏幕', people: '迎宾名单', add: '添加人员',
      search: '按姓名、称谓、留言查找', testDoor: '测试显示，门号', show: '显示', welcome: '迎接此卡', edit: '编辑', door: '门 ',
      doors: '门号', allDoors: '所有门', times: ' 次', ago: '前', card: '卡号', name: '姓名', title: '称谓',
      message: '留言', from: '起始日', to: '截止日', priority: '优先级', lang: '语言', asSite: '默认', photo: '照片',
      choose: '选择照片', noPhoto: '不用照片', save: '保存', cancel: '取消', remove: '删除', save2: '已保存', removed: '已删除：',
      hint: '可用 {name} {title} {greeting} {door}。空：与众人相同。', noCards: '暂无。刷一下卡，就会出现在这里。',
      noScreens: '没有已连接的屏幕。', noPeople: '暂无人员。', newPerson: '新人员', shown: '已显示，屏幕数：',
      away: '服务器没有应答。', tooLarge: '照片超过 2 MB。', notPhoto: '照片须为 JPEG 或 PNG 文件。',
      notToday: '今天不迎接', sure: '确定删除？再按一次。', preview: '预览：',
      line: '第', bad: '名单文件无法使用，仍在用上一份：', warn: '名单文件中请注意：', quiet: '从未应答', answered: '应答于 ', of: ' / ',
      person: ' 人', persons: ' 人', since: '自 ', until: '至 '
    }
  };
  var language = /^zh/i.test(navigator.language || '') ? 'zh' : 'en';
  var words = WORDS[language];

  function byId(id) { return document.getElementById(id); }

  function make(kind, text, className) {
    var node = document.createElement(kind);
    if (text !== undefined) { node.textContent = text; }
    if (className) { node.className = className; }
    return node;
  }

  // ---- The server ----

  // answer(error, value): the error is a text for people.
  function ask(method, what, body, answer) {
    var request = new XMLHttpRequest();
    request.onreadystatechange = function () {
      if (request.readyState !== 4) { return; }
      var value = null;
      try { value = JSON.parse(request.responseText); } catch (error) { value = null; }
      if (request.status === 200 && value) { return answer('', value); }
      answer((value && value.error && value.error.message) || words.away, value && value.error);
    };
    request.open(method, 'reception/api/' + what, true);
    request.timeout = 30000;
    request.setRequestHeader('X-Doorcast', '1');
    var isFile = body && typeof body.type === 'string' && typeof body.size === 'number';
    if (body) { request.setRequestHeader('Content-Type', isFile ? body.type : 'application/json'); }
    request.send(body && !isFile ? JSON.stringify(body) : body);
  }

  function say(text, isBad) {
    byId('said').className = isBad ? 'bad' : '';
    byId('said').textContent = text;
  }

  // ---- Lists ----

  // Draws a list only if it has changed, so that focus and a reader's place stay.
  var drawn = {};

  function draw(id, items, none, line) {
    var text = JSON.stringify(items);
    if (drawn[id] === text) { return; }
    drawn[id] = text;
    var list = byId(id);
    var held = list.contains(document.activeElement);
    var focused = held ? document.activeElement.getAttribute('data-key') : null;
    while (list.firstChild) { list.removeChild(list.firstChild); }
    if (!items.length) { list.appendChild(make('li', none, 'none')); }
    items.forEach(function (item) { list.appendChild(line(item)); });
    [].forEach.call(list.querySelectorAll('button'), function (button) {
      if (focused && button.getAttribute('data-key') === focused) { button.focus(); }
    });
    // What had the focus is gone from the list: it stays near.
    if (held && !list.contains(document.activeElement)) { list.focus(); }
  }

  // The parts of the detail are kept apart, since each may be written in a direction of its own.
  function line(name, detail, nameClass) {
    var li = make('li');
    var div = make('div');
    div.appendChild(make('b')).appendChild(make('bdi', name, nameClass));
    var small = div.appendChild(make('small'));
    detail.filter(Boolean).forEach(function (part, index) {
      if (index) { small.appendChild(document.createTextNode(' · ')); }
      small.appendChild(make('bdi', part));
    });
    li.appendChild(div);
    return li;
  }

  function press(text, key, about, action) {
    var button = make('button', text);
    button.type = 'button';
    button.setAttribute('data-key', key);
    button.setAttribute('aria-label', text + ': ' + about);
    button.onclick = action;
    return button;
  }

  function clock(ms) {
    var at = new Date(ms);
    function two(number) { return (number < 10 ? '0' : '') + number; }
    return two(at.getHours()) + ':' + two(at.getMinutes()) + ':' + two(at.getSeconds());
  }

  function doorsOf(doors) {
    return doors.length ? words.door + doors.join(', ') : words.allDoors;
  }

  function daysOf(one) {
    if (one.valid_from && one.valid_from === one.valid_to) { return one.valid_from; }
    if (one.valid_from && one.valid_to) { return one.valid_from + ' – ' + one.valid_to; }
    return one.valid_from ? words.since + one.valid_from : one.valid_to ? words.until + one.valid_to : '';
  }

  function look() {
    if (document.hidden) { return; }
    ask('GET', 'unknown', null, function (error, answer) {
      if (error) { return say(error, true); }
      if (byId('said').className === 'bad') { say(''); }
      draw('unknown', answer.unknown, words.noCards, function (card) {
        var times = card.times > 1 ? card.times + words.times : '';
        var li = line(card.card, [clock(card.seen_ms), words.door + card.door, times], 'code');
        li.appendChild(press(words.welcome, card.handle, card.card, function () { edit(null, card); }));
        return li;
      });
    });
    ask('GET', 'screens', null, function (error, answer) {
      if (error) { return; }
      draw('screens', answer.screens, words.noScreens, function (screen) {
        var seen = screen.answered_ms ? words.answered + clock(screen.answered_ms) : words.quiet;
        return line(screen.screen || screen.remote, [doorsOf(screen.doors), seen]);
      });
    });
    people();
  }

  function people() {
    ask('GET', 'people?q=' + encodeURIComponent(byId('search').value), null, function (error, answer) {
      if (error) { return; }
      byId('count').textContent = (answer.people.length < answer.total ? answer.people.length + words.of : '') +
        answer.total + (answer.total === 1 ? words.person : words.persons);
      showFile(answer.file || {});
      draw('list', answer.people, words.noPeople, person);
    });
  }

  function showFile(file) {
    var isBad = Boolean(file.problems && file.problems.length);
    var problems = (isBad ? file.problems : file.warnings) || [];
    var text = problems.slice(0, 10).map(function (problem) {
      return words.line + problem.line + (problem.column ? ', ' + problem.column : '') + ': ' + problem.reason;
    }).join('\n');
    text = text && (isBad ? words.bad : words.warn) + '\n' + text;
    if (byId('problems').textContent !== text) { byId('problems').textContent = text; }
    byId('problems').hidden = !text;
  }

  function person(one) {
    var li = line(one.name, [one.title, doorsOf(one.doors), daysOf(one), one.card]);
    if (!one.today) { li.querySelector('b').appendChild(make('span', words.notToday, 'tag')); }
    var face = make(one.photo_url ? 'img' : 'span', one.photo_url ? undefined : one.name.slice(0, 1), 'face');
    if (one.photo_url) {
      face.alt = '';
      face.src = one.photo_url;
    } else {
      face.setAttribute('aria-hidden', 'true');
    }
    li.insertBefore(face, li.firstChild);
    if (!one.today) { li.className = 'off'; }
    li.appendChild(press(words.edit, one.ref, one.name, function () { edit(one, null); }));
    return li;
  }

  // ---- One person ----

  var open = null; // {ref} or {handle} or {}, with photo and photo_url
  var cameFrom = null;

  function edit(one, card) {
    cameFrom = document.activeElement;
    open = { ref: one && one.ref, handle: card && card.handle, photo: one ? one.photo : '',
      photoUrl: one ? one.photo_url : null };
    byId('panel-h').textContent = one ? one.name : card ? card.card : words.newPerson;
    byId('card-row').hidden = Boolean(one || card);
    byId('card').value = '';
    byId('card').required = !one && !card;
    FIELDS.forEach(function (field) { byId(field).value = one ? one[field] : ''; });
    byId('doors').value = one ? one.doors.join(', ') : '';
    byId('delete').hidden = !one;
    byId('delete').textContent = words.remove;
    byId('wrong').textContent = '';
    byId('editor').hidden = false;
    byId('layout').setAttribute('aria-hidden', 'true');
    byId(one || card ? 'name' : 'card').focus();
    preview();
  }

  function close() {
    open = null;
    byId('editor').hidden = true;
    byId('layout').removeAttribute('aria-hidden');
    if (cameFrom && document.contains(cameFrom)) { cameFrom.focus(); } else { byId('people').focus(); }
  }

  function fields() {
    var person = { photo: open.photo };
    FIELDS.forEach(function (field) { person[field] = byId(field).value.trim(); });
    person.priority = parseInt(person.priority, 10) || 0;
    person.doors = byId('doors').value.split(/[,，;；、\s]+/).filter(Boolean);
    return person;
  }

  function wrong(text, error) {
    byId('wrong').textContent = text;
    var field = error && error.column && byId(error.column === 'rfsim' ? 'card' : error.column);
    if (field) { field.focus(); }
  }

  function save(event) {
    event.preventDefault();
    var action = open.ref ? { action: 'edit', ref: open.ref }
      : open.handle ? { action: 'welcome', handle: open.handle } : { action: 'add', card: byId('card').value.trim() };
    action.person = fields();
    ask('POST', 'people', action, function (text, answer) {
      if (text) { return wrong(text, answer); }
      say(words.save2 + ': ' + answer.person.name);
      close();
      look();
    });
  }

  function remove() {
    var button = byId('delete');
    if (button.textContent !== words.sure) {
      button.textContent = words.sure;
      return;
    }
    ask('POST', 'people', { action: 'delete', ref: open.ref }, function (text) {
      if (text) { return wrong(text); }
      say(words.removed + byId('panel-h').textContent);
      close();
      look();
    });
  }

  function upload() {
    var file = byId('file').files[0];
    byId('file').value = '';
    if (!file) { return; }
    if (!/^image\/(jpeg|png)$/.test(file.type)) { return wrong(words.notPhoto); }
    if (file.size > PHOTO_BYTES) { return wrong(words.tooLarge); }
    ask('POST', 'photo', file, function (text, answer) {
      if (!open) { return; }
      if (text) { return wrong(text); }
      open.photo = answer.photo;
      open.photoUrl = answer.photo_url;
      wrong('');
      preview();
    });
  }

  // ---- The preview: what a screen would show ----

  var previewer = null;

  function previewSoon(event) {
    // What is wrong with a file is said at once, and stays until something else is done.
    if (event.target === byId('file')) { return; }
    clearTimeout(previewer);
    previewer = setTimeout(preview, PREVIEW_MS);
  }

  function preview() {
    if (!open) { return; }
    var person = fields();
    var door = person.doors[0] || '1';
    if (!person.name) { return see({ name: '…' }); }
    ask('POST', 'preview', { person: person, door: door }, function (text, answer) {
      if (!open) { return; }
      if (text) { return wrong(text); }
      wrong('');
      see(answer.greeting);
    });
  }

  function see(greeting) {
    byId('sees-hello').textContent = greeting.greeting || '';
    byId('sees-name').textContent = greeting.name;
    byId('sees-title').textContent = greeting.title || '';
    byId('sees-message').textContent = greeting.message || '';
    var photo = greeting.photo || open.photoUrl;
    byId('sees-photo').hidden = !photo;
    if (photo) { byId('sees-photo').src = photo; } else { byId('sees-photo').removeAttribute('src'); }
    byId('preview').setAttribute('aria-label', words.preview + [greeting.greeting, greeting.name, greeting.title,
      greeting.message].filter(Boolean).join(', '));
  }

  // ---- Begin ----

  // Escape leaves, and Tab stays within.
  function keys(event) {
    if (!open) { return; }
    if (event.keyCode === 27) { return close(); }
    if (event.keyCode !== 9) { return; }
    var reachable = [].filter.call(byId('panel').querySelectorAll('input, select, textarea, button'), function (node) {
      return node.offsetParent !== null;
    });
    var first = reachable[0];
    var last = reachable[reachable.length - 1];
    if (event.shiftKey && document.activeElement === first) {
      event.preventDefault();
      last.focus();
    } else if (!event.shiftKey && document.activeElement === last) {
      event.preventDefault();
      first.focus();
    }
  }

  function showTest(event) {
    event.preventDefault();
    ask('POST', 'test', { door: byId('test-door').value.trim() }, function (text, answer) {
      say(text || words.shown + answer.screens, Boolean(text));
    });
  }

  var searcher = null;

  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  document.title = words.reception;
  [].forEach.call(document.querySelectorAll('[data-say]'), function (node) {
    node.textContent = words[node.getAttribute('data-say')];
  });
  byId('doors').placeholder = words.allDoors;
  byId('search').placeholder = words.search;
  byId('search').setAttribute('aria-label', words.search);
  byId('search').oninput = function () {
    clearTimeout(searcher);
    searcher = setTimeout(people, PREVIEW_MS);
  };
  byId('add').onclick = function () { edit(null, null); };
  byId('panel').onsubmit = save;
  byId('panel').oninput = previewSoon;
  byId('cancel').onclick = byId('shade').onclick = close;
  byId('delete').onclick = remove;
  byId('file').onchange = upload;
  byId('no-photo').onclick = function () {
    open.photo = '';
    open.photoUrl = null;
    preview();
  };
  byId('test').onsubmit = showTest;
  document.addEventListener('keydown', keys);
  document.addEventListener('visibilitychange', look);
  setInterval(look, LOOK_MS);
  look();
}());
